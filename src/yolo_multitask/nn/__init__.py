"""The network: heads, their branches, and the model that carries them."""
