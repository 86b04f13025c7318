"""Where the teacher and the scripts that this training shares with others are."""

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = os.path.join(HERE, "../../scenes")
sys.path += [FOLDER + "/train", os.path.join(HERE, "../../fashion-ddpm/train")]
