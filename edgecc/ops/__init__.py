"""The core operators, one family a file; importing this package registers all of them."""
