"""What every model is given: the listener, admission, the books, the limits and the stop."""
