"""The models every method is compared on."""
