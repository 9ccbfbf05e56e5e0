//! transport-coap
