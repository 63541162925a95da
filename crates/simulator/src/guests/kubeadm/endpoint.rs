//! How kubeadm reaches an API server.

use std::net::SocketAddrV4;

use crate::guests::Guests;
use crate::guests::network::Reach;
use crate::guests::node::UNKNOWN_AUTHORITY;

/// kubeadm talks to the API server through `controlPlaneEndpoint`: the guest to which that leads. `ca`:
/// the CA that must have signed its certificate; `None` for discovery, which accepts the server that
/// answers.
///
/// # Errors
/// client-go's messages.
pub fn through_endpoint(
    guests: &Guests,
    key: &str,
    endpoint: &str,
    ca: Option<&str>,
    path: &str,
) -> Result<String, String> {
    let (host, port) = endpoint.rsplit_once(':').unwrap_or((endpoint, "6443"));
    let Some(guest) = guests.all.get(key) else { return Err(String::new()) };
    let url = format!("https://{endpoint}{path}");
    let Some(address) = guests.resolve(guest, host) else {
        return Err(format!(
            "Get \"{url}\": dial tcp: lookup {host} on 127.0.0.53:53: no such host"
        ));
    };
    let port = port.parse().unwrap_or(6443);
    match guests.dial(SocketAddrV4::new(address, port)) {
        Reach::Api(found) => {
            if ca.is_some_and(|ca| guests.api_ca(&found).map(str::trim) != Some(ca.trim())) {
                return Err(format!("Get \"{url}\": {UNKNOWN_AUTHORITY}"));
            }
            Ok(found)
        }
        Reach::Ill(_) => Err("etcdserver: request timed out".to_owned()),
        Reach::Closed => Err(format!("Get \"{url}\": EOF")),
        Reach::NoRoute => {
            Err(format!("Get \"{url}\": dial tcp {address}:{port}: connect: no route to host"))
        }
        _ => Err(format!("Get \"{url}\": dial tcp {address}:{port}: connect: connection refused")),
    }
}
