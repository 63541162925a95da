//! `curl` with certificates: to etcd's JSON gateway and to the API server's `/readyz`.

use std::net::{Ipv4Addr, SocketAddrV4};

use serde_json::Value;

use super::super::etcd::Base;
use super::super::network::Reach;
use super::super::{Guests, pace, tls};
use super::{Call, Output, gateway, kubectl};

/// A URL and the data sent to it.
pub(super) struct Request<'a> {
    host: &'a str,
    port: u16,
    pub path: &'a str,
    pub data: Option<&'a str>,
}

fn request<'a>(argv: &[&'a str]) -> Option<Request<'a>> {
    let url = argv.iter().find(|word| word.starts_with("https://"))?;
    let data = argv.iter().position(|word| *word == "-d").and_then(|at| argv.get(at + 1)).copied();
    let rest = url.trim_start_matches("https://");
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
    Some(Request { host, port: port.parse().ok()?, path, data })
}

/// The destination of a request: a machine also reaches itself by its loopback address.
fn target(call: &Call<'_>, request: &Request<'_>) -> Option<SocketAddrV4> {
    let address = match request.host {
        "localhost" => Ipv4Addr::LOCALHOST,
        host => call.resolve(host)?,
    };
    let own = call.guest.address().filter(|_| address.is_loopback());
    Some(SocketAddrV4::new(own.unwrap_or(address), request.port))
}

/// Read-only requests, and all that fail before a write; `None` for writes.
pub fn look(call: &Call<'_>) -> Option<Output> {
    let Some(request) = request(&call.argv) else {
        return Some(Output::failed(2, "curl: no URL specified!"));
    };
    let reach = match connect(call, &request) {
        Err(failed) => return Some(slow(failed)),
        Ok(reach) => reach,
    };
    let (status, body) = match &reach {
        Reach::Etcd(base) => {
            (200, gateway::look(call.guests, base, target(call, &request), &request)?)
        }
        Reach::Ill(key) => api(call.guests, key, request.path, false),
        Reach::Api(key) => api(call.guests, key, request.path, true),
        _ => (404, String::new()),
    };
    Some(slow(shown(call, status, body)))
}

fn slow(output: Output) -> Output {
    Output { seconds: output.seconds.max(pace::COMMAND), ..output }
}

/// curl's output for an answer.
fn shown(call: &Call<'_>, status: u16, body: String) -> Output {
    let short = |letter: char| {
        call.argv
            .iter()
            .any(|word| word.starts_with('-') && !word.starts_with("--") && word.contains(letter))
    };
    if status >= 400 && (call.has("--fail") || short('f')) {
        let text = format!("curl: (22) The requested URL returned error: {status}");
        return Output::failed(22, text);
    }
    let mut text = if call.option("-o").is_some() { String::new() } else { body };
    if let Some(format) = call.option("-w") {
        let code = status.to_string();
        text.push_str(&format.replace("%{http_code}", &code).replace("\\n", "\n"));
    }
    Output::ok(text)
}

/// The API server's answer to an anonymous client. `well`: whether its etcd answers it.
fn api(guests: &Guests, key: &str, path: &str, well: bool) -> (u16, String) {
    let kube = guests.all.get(key).and_then(|guest| guests.kubes.get(guest.disk.kube.as_ref()?));
    let version = kube.map(|kube| kube.version.clone()).unwrap_or_default();
    match path.split('?').next() {
        Some("/readyz" | "/livez" | "/healthz") if well => (200, "ok".to_owned()),
        Some(path @ ("/readyz" | "/livez" | "/healthz")) => {
            let name = path.trim_start_matches('/');
            let text = format!(
                "[+]ping ok\n[+]log ok\n[-]etcd failed: reason withheld\n{name} check failed\n"
            );
            (500, text)
        }
        Some("/version") => (200, kubectl::version(&version)),
        _ => (403, "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\
            \"message\":\"forbidden: User \\\"system:anonymous\\\" cannot get path\",\"reason\":\"Forbidden\",\
            \"details\":{},\"code\":403}".to_owned()),
    }
}

/// TCP, TLS and the client certificate: the peer that the connection reaches, or curl's error.
fn connect(call: &Call<'_>, request: &Request<'_>) -> Result<Reach, Output> {
    let Request { host, port, .. } = request;
    let fail =
        |code: u32, text: String| Err(Output::failed(code, format!("curl: ({code}) {text}")));
    let ca = match call.option("--cacert") {
        None => None,
        Some(path) => match call.guest.text(path) {
            Some(text) if call.root || call.guest.world_readable(path) => Some(text),
            _ => return fail(77, format!("error setting certificate file: {path}")),
        },
    };
    let Some(to) = target(call, request) else {
        return fail(6, format!("Could not resolve host: {host}"));
    };
    let address = *to.ip();
    let limit =
        call.option("--max-time").and_then(|text| text.parse::<f64>().ok()).unwrap_or(130.0);
    let met = call.guests.dial(to);
    match &met {
        Reach::NoRoute if in_subnet(call, address) => {
            return fail(
                7,
                format!("Failed to connect to {host} port {port} after 3061 ms: No route to host"),
            )
            .map_err(|output: Output| output.lasting(pace::NO_ROUTE));
        }
        Reach::NoRoute => {
            let text =
                format!("Connection timed out after {} milliseconds", (limit * 1000.0) as u64 + 1);
            return fail(28, text).map_err(|output: Output| output.lasting(limit));
        }
        Reach::Refused | Reach::Ssh(_) => {
            return fail(
                7,
                format!("Failed to connect to {host} port {port} after 0 ms: Connection refused"),
            );
        }
        Reach::Closed => {
            return fail(
                35,
                format!("OpenSSL SSL_connect: SSL_ERROR_SYSCALL in connection to {host}:{port} "),
            );
        }
        Reach::Etcd(base) => tls_etcd(call, base, address, host, ca)?,
        Reach::Api(key) | Reach::Ill(key) => tls_api(call, key, host, ca)?,
    }
    Ok(met)
}

fn in_subnet(call: &Call<'_>, address: Ipv4Addr) -> bool {
    call.guest.disk.network.as_ref().is_some_and(|network| {
        let host = u32::MAX.checked_shr(u32::from(network.prefix)).unwrap_or(0);
        address.to_bits() & !host == network.address.to_bits() & !host
    })
}

fn untrusted() -> Output {
    Output::failed(
        60,
        "curl: (60) SSL certificate problem: unable to get local issuer certificate\n\
        More details here: https://curl.se/docs/sslcerts.html\n\ncurl failed to verify the legitimacy of \
        the server and therefore could not\nestablish a secure connection to it. To learn more about this \
        situation and\nhow to fix it, please visit the web page mentioned above.",
    )
}

fn tls_etcd(
    call: &Call<'_>,
    base: &Base,
    address: Ipv4Addr,
    host: &str,
    ca: Option<&str>,
) -> Result<(), Output> {
    let Some(etcd) = call.guests.etcd_of(base) else {
        return Err(Output::failed(7, "curl: (7) Connection refused"));
    };
    let unix = call.guests.unix();
    let trusted = ca.is_some_and(|ca| {
        let server = call.guests.at(address).and_then(|(_, guest)| match base {
            Base::Site => guest.etcd_server(),
            Base::Stacked(_) => guest.stacked_server(),
        });
        match server.filter(|_| etcd.is_on_guests()) {
            Some(server) => tls::vouches(ca, server, host, unix),
            None => ca.trim() == etcd.ca.pair.cert.trim(),
        }
    });
    if !trusted {
        return Err(untrusted());
    }
    let file = |flag: &str| match call.option(flag) {
        None => Ok(None),
        Some(path) => match call.guest.text(path) {
            Some(text) if call.root || call.guest.world_readable(path) => Ok(Some(text.trim())),
            _ if flag == "--cert" => Err(Output::failed(
                58,
                "curl: (58) could not load PEM client \
                certificate, OpenSSL error error:80000002:system library::No such file or directory, (no \
                key found, wrong pass phrase, or wrong file format?)",
            )),
            _ => Err(Output::failed(
                58,
                format!("curl: (58) unable to set private key file: '{path}' type PEM"),
            )),
        },
    };
    let (cert, key) = (file("--cert")?, file("--key")?);
    let Some(cert) = cert else {
        return Err(Output::failed(
            56,
            "curl: (56) OpenSSL SSL_read: error:0A00045C:SSL routines::tlsv13 \
            alert certificate required, errno 0",
        ));
    };
    if !cert.contains("-----END CERTIFICATE-----") {
        return Err(Output::failed(
            58,
            "curl: (58) could not load PEM client certificate, OpenSSL error \
            error:0480006C:PEM routines::no start line, (no key found, wrong pass phrase, or wrong \
            file format?)",
        ));
    }
    if !etcd.is_on_guests() && call.guests.faulty("etcd-cert-expired", &["cert"]) {
        return Err(Output::failed(
            56,
            "curl: (56) OpenSSL SSL_read: error:0A000415:SSL routines::sslv3 \
            alert certificate expired, errno 0",
        ));
    }
    let path = call.option("--key").unwrap_or_default();
    if key.is_none_or(|key| !tls::belong(cert, key)) {
        return Err(Output::failed(
            58,
            format!("curl: (58) unable to set private key file: '{path}' type PEM"),
        ));
    }
    if !tls::admits(&etcd.ca.pair.cert, cert, unix) {
        return Err(Output::failed(
            56,
            "curl: (56) OpenSSL SSL_read: error:0A000412:SSL routines::sslv3 \
            alert bad certificate, errno 0",
        ));
    }
    Ok(())
}

fn tls_api(call: &Call<'_>, key: &str, host: &str, ca: Option<&str>) -> Result<(), Output> {
    let insecure =
        call.has("-k") || call.argv.iter().any(|word| word.starts_with("-s") && word.contains('k'));
    if insecure {
        return Ok(());
    }
    let Some(server) = call.guests.all.get(key) else { return Err(untrusted()) };
    // The certificate is the API server's own, signed by the CA on its machine.
    if call.guests.api_ca(key).zip(ca).is_none_or(|(own, ca)| ca.trim() != own.trim()) {
        return Err(untrusted());
    }
    if !server.disk.api_names.iter().any(|name| name == host) {
        return Err(Output::failed(
            60,
            format!(
                "curl: (60) SSL: no alternative certificate subject name matches target host name '{host}'"
            ),
        ));
    }
    Ok(())
}

/// A write to etcd that [`look`] has allowed.
pub fn change(guests: &mut Guests, key: &str, words: &[String]) -> Output {
    let argv: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some(request) = request(&argv) else { return Output::failed(2, "curl: no URL specified!") };
    let Some(guest) = guests.all.get(key) else { return Output::failed(255, "gone") };
    let call = Call { guests, key, guest, root: true, argv: argv.clone() };
    let met = target(&call, &request).map(|to| (to, guests.dial(to)));
    let Some((to, Reach::Etcd(base))) = met else {
        return Output::failed(7, "curl: (7) Connection refused");
    };
    let body: Value = serde_json::from_str(request.data.unwrap_or_default()).unwrap_or_default();
    Output::ok(gateway::change(guests, &base, to, request.path, &body, key))
}
