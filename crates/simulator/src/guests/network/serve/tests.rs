//! Over the wire: SSH through the proxy, DNS over UDP and TCP.

use std::sync::Arc;

use hickory_resolver::Resolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use russh::ChannelMsg;
use russh::client;
use russh::keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};

use super::*;
use crate::clock::Clock;
use crate::guests::testing::{self, Bench};

const SPEED: f64 = 200.0;

/// Opens the ports of a bench at a time of its own clock.
fn shared(bench: Bench) -> Shared {
    let clock = Clock::new(bench.guests.now, SPEED);
    let world = testing::world(bench.guests);
    Shared::new(world, clock, bench.store)
}

struct Client {
    seen: Arc<std::sync::Mutex<Option<String>>>,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(
        &mut self,
        key: &PublicKeyOrCertificate,
    ) -> Result<bool, Self::Error> {
        if let PublicKeyOrCertificate::PublicKey { key, .. } = key {
            *self.seen.lock().unwrap() = key.to_openssh().ok();
        }
        Ok(true)
    }
}

/// Connects through the proxy (RFC 9110, section 9.3.6); the error is the proxy's answer.
async fn connect(proxy: SocketAddr, to: &str) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    let request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    let head = String::from_utf8(head).unwrap();
    if !head.starts_with("HTTP/1.1 200 ") {
        // The error is in the body.
        let mut body = String::new();
        stream.read_to_string(&mut body).await.unwrap_or_default();
        return Err(head + &body);
    }
    Ok(stream)
}

struct Ssh {
    handle: client::Handle<Client>,
    host_key: String,
}

async fn ssh(proxy: SocketAddr, key: &PrivateKey) -> Ssh {
    let stream = connect(proxy, "10.101.1.101:22").await.unwrap();
    let seen = Arc::new(std::sync::Mutex::new(None));
    let client = Client { seen: seen.clone() };
    let config = Arc::new(client::Config::default());
    let mut handle = client::connect_stream(config, stream, client).await.unwrap();
    let key = PrivateKeyWithHashAlg::new(Arc::new(key.clone()), None);
    let accepted = handle.authenticate_publickey("ops", key).await.unwrap().success();
    assert!(accepted);
    let host_key = seen.lock().unwrap().clone().unwrap();
    Ssh { handle, host_key }
}

impl Ssh {
    /// Exit code and standard output; no code if the connection was lost.
    async fn run(&self, line: &str, stdin: Option<&[u8]>) -> (Option<u32>, String) {
        let mut channel = self.handle.channel_open_session().await.unwrap();
        channel.exec(true, line).await.unwrap();
        if let Some(stdin) = stdin {
            channel.data(stdin).await.unwrap();
            channel.eof().await.unwrap();
        }
        let (mut code, mut text) = (None, String::new());
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => text.push_str(&String::from_utf8_lossy(&data)),
                ChannelMsg::ExitStatus { exit_status } => code = Some(exit_status),
                _ => {}
            }
        }
        (code, text)
    }
}

fn booted() -> Bench {
    let mut bench = Bench::new(false);
    bench.boot("m1", "");
    bench.pass(60.0);
    bench
}

fn public(key: &PrivateKey) -> String {
    let line = key.public_key().to_openssh().unwrap();
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_guest_is_reached_through_the_proxy_with_the_host_key_from_its_seed() {
    let bench = booted();
    let (operator, host_key) = (bench.operator.clone(), public(&bench.host_key));
    let ends = serve(shared(bench)).await.unwrap();
    let ssh = ssh(ends.proxy, &operator).await;
    assert!(ssh.host_key.starts_with(&host_key), "{}", ssh.host_key);
    assert_eq!(ssh.run("hostname -f", None).await, (Some(0), "m1.kloud.lan\n".to_owned()));
    assert_eq!(ssh.run("nothing", None).await.0, Some(127));
    let body = vec![b'x'; 3 << 20];
    let put = "sudo -n -- install -D -m 0600 -o root -g root /dev/stdin /root/big";
    assert_eq!(ssh.run(put, Some(&body)).await.0, Some(0));
    assert_eq!(ssh.run("cat /root/big", None).await.0, Some(1));
    let (code, text) = ssh.run("sudo -n -- cat /root/big", None).await;
    assert_eq!((code, text.len()), (Some(0), body.len()));
}

#[tokio::test]
async fn sessions_end_with_their_guest_and_an_unknown_key_is_refused() {
    let bench = booted();
    let operator = bench.operator.clone();
    let shared = shared(bench);
    let ends = serve(shared.clone()).await.unwrap();
    let session = ssh(ends.proxy, &operator).await;
    shared.act(|world, _| {
        let now = world.now;
        world.guests.power_off("m1", true, now);
    });
    // This only ends with the connection.
    session.handle.await.unwrap_or_default();
    let error = connect(ends.proxy, "10.101.1.101:22").await.unwrap_err();
    assert!(error.contains("No route to host"), "{error}");
}

#[tokio::test]
async fn a_guest_with_a_late_sshd_refuses_connections_and_a_wrong_host_key_is_not_the_one_from_the_seed()
 {
    let mut bench = Bench::new(false);
    for fault in ["ssh-late", "wrong-host-key"] {
        bench.guests.faults.insert((fault.to_owned(), "m1".to_owned()));
    }
    bench.boot("m1", "");
    bench.pass(30.0);
    let (operator, host_key) = (bench.operator.clone(), public(&bench.host_key));
    let shared = shared(bench);
    let ends = serve(shared.clone()).await.unwrap();
    let error = connect(ends.proxy, "10.101.1.101:22").await.unwrap_err();
    assert!(error.contains("Connection refused"), "{error}");
    shared.act(|world, _| {
        let later = world.now.after(120.0);
        world.guests.advance(later);
    });
    let ssh = ssh(ends.proxy, &operator).await;
    assert!(!ssh.host_key.starts_with(&host_key));
}

async fn asked(server: SocketAddr, name: &str) -> Result<Vec<String>, String> {
    let mut ns = NameServerConfig::udp_and_tcp(server.ip());
    for connection in &mut ns.connections {
        connection.port = server.port();
    }
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![ns]);
    let mut builder = Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().cache_size = 0;
    builder.options_mut().attempts = 0;
    builder.options_mut().timeout = Duration::from_millis(300);
    let resolver = builder.build().unwrap();
    let found = resolver.ipv4_lookup(name).await.map_err(|error| error.to_string())?;
    Ok(found.answers().iter().map(|record| record.data.to_string()).collect())
}

#[tokio::test]
async fn each_name_server_answers_for_itself() {
    let mut bench = Bench::new(false);
    bench.guests.faults.insert(("dns-stale".to_owned(), "10.101.1.3".to_owned()));
    let ends = serve(shared(bench)).await.unwrap();
    let servers: Vec<_> = ends.name_servers.values().copied().collect();
    assert_eq!(asked(servers[0], "k8s1api.kloud.lan.").await.unwrap(), ["10.101.1.10"]);
    assert_eq!(asked(servers[1], "k8s1api.kloud.lan.").await.unwrap(), ["10.101.1.138"]);
    assert_eq!(asked(servers[1], "m1.kloud.lan.").await.unwrap(), ["10.101.1.101"]);
    assert!(asked(servers[0], "unknown.kloud.lan.").await.is_err());
}

#[tokio::test]
async fn a_silent_name_server_does_not_answer() {
    let mut bench = Bench::new(false);
    bench.guests.faults.insert(("dns-silent".to_owned(), String::new()));
    let ends = serve(shared(bench)).await.unwrap();
    let server = *ends.name_servers.values().next().unwrap();
    assert!(asked(server, "k8s1api.kloud.lan.").await.unwrap_err().contains("timed out"));
}
