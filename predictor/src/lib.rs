//! The predictor: a synchronous decision engine and its gRPC server.
