//! Seeds that mean the same as in torch.
