//! End-to-end tests of the binary: real sockets, real clients, a server of its own for each test.

#![allow(unreachable_pub, reason = "one test binary, many modules")]
#![allow(clippy::unwrap_used, reason = "a test may end by it")]

mod admin_answers;
mod admin_tool;
mod admin_verbs;
mod api_document;
mod applications;
mod audit_chain;
mod balancer;
mod bodies;
mod clients;
mod cluster;
mod command_line;
mod deployments;
mod doctor;
mod examples;
mod flows;
mod gateways;
mod guides;
mod harness;
mod hostile;
mod imports;
mod key_rotation;
mod limits;
mod manifests;
mod modes;
mod moving;
mod mqtt_rules;
mod observability;
mod owners;
mod postgres;
mod postgres_faults;
mod promises;
mod refusals;
mod roles;
mod shared_claims;
mod snippets;
mod stack;
mod store_faults;
mod store_faults_midway;
mod supervision;
mod watch;
