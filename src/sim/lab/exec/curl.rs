//! `curl` with certificates: to etcd's JSON gateway and to the API server's `/readyz`.

use std::net::{Ipv4Addr, SocketAddrV4};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::network::Reach;
use super::super::{Lab, etcd, pace, tls};
use super::{Call, Output, members};

/// A URL and the data that goes with it.
struct Request<'a> {
    host: &'a str,
    port: u16,
    path: &'a str,
    data: Option<&'a str>,
}

fn request<'a>(argv: &[&'a str]) -> Option<Request<'a>> {
    let url = argv.iter().find(|word| word.starts_with("https://"))?;
    let data = argv.iter().position(|word| *word == "-d").and_then(|at| argv.get(at + 1)).copied();
    let rest = url.trim_start_matches("https://");
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let (host, port) = authority.split_once(':').unwrap_or((authority, "443"));
    Some(Request { host, port: port.parse().ok()?, path, data })
}

/// Requests that change nothing, and all that fail before they could; `None` for writes.
pub fn look(call: &Call<'_>) -> Option<Output> {
    let Some(request) = request(&call.argv) else {
        return Some(Output::failed(2, "curl: no URL specified!"));
    };
    match connect(call, &request) {
        Err(failed) => Some(failed),
        Ok(Reach::Etcd) => etcd_read(call.lab, &request).map(Output::ok),
        Ok(_) => Some(match request.path.split('?').next() {
            Some("/readyz" | "/livez" | "/healthz") => Output::ok("ok"),
            Some("/version") => Output::ok("{\n  \"major\": \"1\"\n}"),
            _ => Output::ok("{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\
                \"message\":\"forbidden: User \\\"system:anonymous\\\" cannot get path\",\"reason\":\"Forbidden\",\
                \"details\":{},\"code\":403}"),
        }),
    }
    .map(|output| Output { seconds: output.seconds.max(pace::COMMAND), ..output })
}

/// TCP, TLS and the client certificate: what the connection meets, or curl's complaint.
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
    let Some(address) = call.resolve(host) else {
        return fail(6, format!("Could not resolve host: {host}"));
    };
    let limit =
        call.option("--max-time").and_then(|text| text.parse::<f64>().ok()).unwrap_or(130.0);
    let met = call.lab.dial(SocketAddrV4::new(address, *port));
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
        Reach::Etcd => tls_etcd(call, address, host, ca)?,
        Reach::Api(key) => tls_api(call, key, host, ca)?,
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
    address: Ipv4Addr,
    host: &str,
    ca: Option<&str>,
) -> Result<(), Output> {
    let Some(etcd) = &call.lab.etcd else {
        return Err(Output::failed(7, "curl: (7) Connection refused"));
    };
    let unix = call.lab.unix();
    let trusted = ca.is_some_and(|ca| {
        let server = call.lab.at(address).and_then(|(_, guest)| guest.etcd_server());
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
            Some(text) => Ok(Some(text.trim())),
            None if flag == "--cert" => Err(Output::failed(
                58,
                "curl: (58) could not load PEM client \
                certificate, OpenSSL error error:80000002:system library::No such file or directory, (no \
                key found, wrong pass phrase, or wrong file format?)",
            )),
            None => Err(Output::failed(
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
    if !etcd.is_on_guests() && call.lab.faulty("etcd-cert-expired", &["cert"]) {
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
    let Some(server) = call.lab.guests.get(key) else { return Err(untrusted()) };
    let known = server.disk.kube.as_ref().and_then(|id| call.lab.kubes.get(id));
    let trusted = known.zip(ca).is_some_and(|(kube, ca)| ca.trim() == kube.ca.pair.cert.trim());
    if !trusted {
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

pub(super) fn header(revision: u64) -> Value {
    json!({"cluster_id": "14841639068965178418", "member_id": "10276657743932975437",
        "revision": revision.to_string(), "raft_term": "3"})
}

fn unpack(value: &Value) -> Vec<u8> {
    value.as_str().and_then(|text| STANDARD.decode(text).ok()).unwrap_or_default()
}

/// What etcd's gateway answers to a request that reads; `None` for one that writes.
fn etcd_read(lab: &Lab, request: &Request<'_>) -> Option<String> {
    let etcd = lab.etcd.as_ref()?;
    let quorum = lab.etcd_quorum();
    match request.path {
        "/health" if quorum => return Some("{\"health\":\"true\",\"reason\":\"\"}".to_owned()),
        "/health" => {
            return Some("{\"health\":\"false\",\"reason\":\"RAFT NO LEADER\"}".to_owned());
        }
        "/version" => {
            let series: Vec<&str> = etcd::VERSION.split('.').take(2).collect();
            let version = json!({"etcdserver": etcd::VERSION, "etcdcluster": format!("{}.0", series.join("."))});
            return Some(version.to_string());
        }
        "/v3/kv/range" | "/v3/kv/put" | "/v3/kv/deleterange" => {}
        path if path.starts_with(members::PATH) => return members::look(lab, path),
        _ => return Some("404 page not found\n".to_owned()),
    }
    let Ok(body) = serde_json::from_str::<Value>(request.data.unwrap_or_default()) else {
        return Some("{\"code\":3,\"message\":\"invalid character\",\"details\":[]}".to_owned());
    };
    if !quorum {
        return Some(
            "{\"code\":14,\"message\":\"etcdserver: no leader\",\"details\":[]}".to_owned(),
        );
    }
    let key = unpack(&body["key"]);
    if key.is_empty() {
        return Some(
            "{\"code\":3,\"message\":\"etcdserver: key is not provided\",\"details\":[]}"
                .to_owned(),
        );
    }
    if request.path != "/v3/kv/range" {
        return None;
    }
    let keys = etcd.range(&key, &unpack(&body["range_end"]));
    let number = |value: &Value| {
        value.as_u64().or_else(|| value.as_str().and_then(|text| text.parse().ok())).unwrap_or(0)
    };
    let limit = match number(&body["limit"]) as usize {
        0 => keys.len(),
        limit => limit,
    };
    let mut answer = json!({"header": header(etcd.revision)});
    // proto3's JSON leaves out what is zero.
    if !keys.is_empty() {
        answer["count"] = keys.len().to_string().into();
    }
    if body["count_only"].as_bool() != Some(true) && !keys.is_empty() {
        let shown = keys.iter().take(limit).filter_map(|name| {
            let entry = etcd.kv.get(name)?;
            let mut value = json!({
                "key": STANDARD.encode(name), "create_revision": entry.created.to_string(),
                "mod_revision": entry.modified.to_string(), "version": entry.version.to_string(),
            });
            if body["keys_only"].as_bool() != Some(true) {
                value["value"] = entry.value.clone().into();
            }
            Some(value)
        });
        answer["kvs"] = shown.collect();
        if keys.len() > limit {
            answer["more"] = true.into();
        }
    }
    Some(answer.to_string())
}

/// A write to etcd: [`look`] has let it through.
pub fn change(lab: &mut Lab, _key: &str, words: &[String]) -> Output {
    let argv: Vec<&str> = words.iter().map(String::as_str).collect();
    let Some(request) = request(&argv) else { return Output::failed(2, "curl: no URL specified!") };
    let body: Value = serde_json::from_str(request.data.unwrap_or_default()).unwrap_or_default();
    if request.path.starts_with(members::PATH) {
        return Output::ok(members::change(lab, request.path, &body));
    }
    let Some(etcd) = &mut lab.etcd else {
        return Output::failed(7, "curl: (7) Connection refused");
    };
    let key = unpack(&body["key"]);
    let answer = if request.path == "/v3/kv/put" {
        let value = body["value"].as_str().unwrap_or_default().to_owned();
        etcd.put(&String::from_utf8_lossy(&key), value);
        json!({"header": header(etcd.revision)})
    } else {
        let deleted = etcd.delete(&key, &unpack(&body["range_end"]));
        let mut answer = json!({"header": header(etcd.revision)});
        if deleted > 0 {
            answer["deleted"] = deleted.to_string().into();
        }
        answer
    };
    let empty = !etcd.holds_kubernetes();
    if empty {
        // Without its keys the cluster is gone; API servers that still run serve nothing.
        lab.kubes.remove(super::super::kube::EXTERNAL);
    }
    Output::ok(answer.to_string())
}
