//! Drives `k8sha sim` with the Proxmox VE clients of crates.io, which know nothing of k8sha.
//!
//! ```text
//! SSL_CERT_FILE=CA.pem foreign-clients ENDPOINTS.json SEED.iso
//! ```
//!
//! The first file is the simulator's CA, the second the output of `k8sha sim`, the third a NoCloud
//! seed. Each case builds on those before it, and the first failure ends the run.

mod typed;
mod validating;

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

/// The node used by the cases.
const NODE: &str = "pve1";

/// The number of passed cases.
static PASSED: AtomicUsize = AtomicUsize::new(0);

/// The endpoint of the simulated host.
struct Site {
    /// Such as `https://127.0.0.1:40001`.
    url: String,
    /// The token's user, such as `k8sha@pve`.
    user: String,
    /// The token's own name.
    token: String,
    /// The token's secret.
    secret: String,
    /// The password of `root@pam`.
    password: String,
    /// A seed that installs the guest's agent.
    seed: Vec<u8>,
}

impl Site {
    fn new(endpoints: &Value, seed: Vec<u8>) -> Self {
        let host = &endpoints["hosts"][NODE];
        let text = |name: &str| host[name].as_str().expect(name).to_owned();
        let token = text("token");
        let (id, secret) = token.split_once('=').expect("a token has a secret");
        let (user, name) = id.split_once('!').expect("a token has a name");
        Self {
            url: text("url"),
            user: user.to_owned(),
            token: name.to_owned(),
            secret: secret.to_owned(),
            password: text("root_password"),
            seed,
        }
    }
}

/// Runs a case, whose name states the expected behaviour.
async fn case(name: &'static str, run: impl Future<Output = ()>) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |why| {
        let passed = PASSED.load(Ordering::Relaxed);
        println!("FAILED  {name}\n{passed} passed, 1 failed");
        eprintln!("{why}");
    }));
    tokio::time::timeout(Duration::from_secs(120), run).await.expect("it takes too long");
    std::panic::set_hook(hook);
    PASSED.fetch_add(1, Ordering::Relaxed);
    println!("ok  {name}");
}

/// Runs cases by the names of their functions.
macro_rules! cases {
    ($($module:ident::$function:ident($site:expr);)*) => {
        $(crate::case(
            concat!(stringify!($module), "::", stringify!($function)),
            $module::$function($site),
        ).await;)*
    };
}

/// Runs this program once more for a single read, with the certificates of a different CA.
fn look_as_a_stranger(endpoints: &str, other: &str) -> String {
    let folder = std::env::temp_dir().join(format!("foreign-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("other.pem");
    std::fs::write(&file, other).expect("a file");
    let itself = std::env::current_exe().expect("this program");
    let look = Command::new(itself).arg(endpoints).env("SSL_CERT_FILE", &file).output();
    std::fs::remove_dir_all(&folder).expect("the folder is there");
    let look = look.expect("this program runs");
    assert!(look.status.success(), "{look:?}");
    String::from_utf8_lossy(&look.stdout).into_owned()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().expect("ENDPOINTS.json");
    let endpoints = std::fs::read_to_string(&file).expect("the endpoints");
    let endpoints: Value = serde_json::from_str(&endpoints).expect("JSON");
    let seed = arguments.next().map(|file| std::fs::read(file).expect("the seed"));
    let looks = seed.is_none();
    let site = &Site::new(&endpoints, seed.unwrap_or_default());
    if looks {
        println!("{:?}\n{:?}", validating::look(site).await, typed::look(site).await);
        return;
    }
    let other = endpoints["etcd"]["ca"].as_str().expect("another authority").to_owned();
    case("tls_is_verified", async {
        let said = look_as_a_stranger(&file, &other);
        let refused = said.lines().filter(|line| line.contains("UnknownIssuer"));
        assert_eq!(refused.count(), 2, "{said}");
    })
    .await;
    cases! {
        validating::the_site_is_listed(site);
        validating::a_ticket_logs_in_and_writes(site);
        validating::a_wrong_login_is_refused(site);
        validating::a_vm_is_created_and_its_task_followed(site);
        validating::what_this_client_reads_wrongly_is_what_proxmox_says(site);
        validating::a_file_is_downloaded_and_none_uploaded(site);
        validating::a_template_is_cloned(site);
        validating::a_vm_is_configured_and_its_disk_grows(site);
        validating::a_snapshot_is_taken_and_removed(site);
        validating::a_vm_is_started_queried_and_stopped(site);
        validating::a_guest_with_a_seed_has_an_agent(site);
        typed::what_is_read_has_the_types_of_the_schema(site);
        typed::a_vm_is_created_changed_and_removed(site);
        typed::accounts_have_the_types_of_the_schema(site);
        typed::errors_have_proxmoxs_messages(site);
        validating::everything_is_removed(site);
    }
    println!("{} passed, 0 failed", PASSED.load(Ordering::Relaxed));
}
