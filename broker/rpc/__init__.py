"""gRPC in, gRPC out; decides nothing."""
