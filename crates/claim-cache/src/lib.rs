//! claim-cache
