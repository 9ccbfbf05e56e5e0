//! Roles and groups.

use testkit::roles_battery;

use crate::server::server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_keeps_the_contract_of_roles() {
    roles_battery::all(|| server().fresh()).await;
}
