//! Every case in every mode.

use crate::cases;
use crate::client::Client;
use crate::common::in_time;
use crate::fleet::{Fleet, Kind, MODES, Mode};
use crate::table::Table;

async fn run(kind: Kind, title: &str) {
    let mut table = Table::new(title, MODES.map(|mode| mode.name));
    for mode in MODES {
        let client = client(kind, mode).await;
        for case in cases::all() {
            table.add(case.name, case.run(&client).await);
        }
    }
    table.settle();
}

async fn client(kind: Kind, mode: Mode) -> Client {
    let fleet = Fleet::start(kind, mode).await;
    let channel = in_time(fleet.channel(fleet.builder(), 3)).await;
    Client { fleet, channel }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_passes_with_tonic_s_server() {
    run(Kind::Tonic, "tonic").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go: make test"]
async fn every_case_passes_with_grpc_go_s_server() {
    run(Kind::GrpcGo, "grpc-go").await;
}
