//! Text: tokenizing and the encoder contract.
