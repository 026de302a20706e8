"""What the broker decides: values in, values out, time as an argument; the standard library alone."""
