//! Devices: names, probing, data types.
