"""The Loop IR: loop programs over buffers, their textual form and interpreter."""
