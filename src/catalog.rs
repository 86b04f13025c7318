//! Models as users name them: folders, single files, Hub ids, the bundled one.
