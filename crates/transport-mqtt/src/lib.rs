//! transport-mqtt
