//! The fields and forms of each version of kubeadm's configuration API.

use serde_json::Value;

/// Refuses an API version that this minor does not support.
///
/// # Errors
/// kubeadm's words (cmd/kubeadm/app/util/config/common.go `validateSupportedVersion`).
pub fn accepts(api: &str, kind: &str, minor: u32) -> Result<(), String> {
    let Some(version) = api.strip_prefix("kubeadm.k8s.io/") else { return Ok(()) };
    let (reads, old) = match version {
        "v1beta4" => (minor >= 31, false),
        "v1beta3" => (minor <= 36, true),
        _ => (false, version.starts_with("v1alpha") || version.starts_with("v1beta")),
    };
    if reads {
        return Ok(());
    }
    if old {
        return Err(format!(
            "your configuration file uses an old API spec: \"{api}\" (kind: \"{kind}\"). Please use \
             kubeadm v1.36 instead and run 'kubeadm config migrate --old-config old-config-file \
             --new-config new-config-file', which will write the new, similar spec using a newer API \
             version."
        ));
    }
    Err(format!("no kind \"{kind}\" is registered for version \"{api}\" in scheme"))
}

/// Refuses values in the JSON form of another API version.
///
/// # Errors
/// Go's words.
pub fn shape(value: &Value, api: &str, kind: &str) -> Result<(), String> {
    let list = api.ends_with("v1beta4");
    let mut found = Vec::new();
    match kind {
        "ClusterConfiguration" => {
            for part in ["apiServer", "controllerManager", "scheduler"] {
                found.push((format!("{part}.extraArgs"), &value[part]["extraArgs"]));
            }
            found.push(("etcd.local.extraArgs".to_owned(), &value["etcd"]["local"]["extraArgs"]));
        }
        "InitConfiguration" | "JoinConfiguration" => {
            let arguments = &value["nodeRegistration"]["kubeletExtraArgs"];
            found.push(("nodeRegistration.kubeletExtraArgs".to_owned(), arguments));
        }
        _ => {}
    }
    for (field, value) in found {
        let (what, wanted) = match value {
            Value::Object(_) if list => ("object", "[]v1beta4.Arg"),
            Value::Array(_) if !list => ("array", "map[string]string"),
            _ => continue,
        };
        return Err(format!(
            "json: cannot unmarshal {what} into Go struct field {kind}.{field} of type {wanted}"
        ));
    }
    Ok(())
}

/// Errors of strict decoding for fields that the version does not have.
pub fn unknown(value: &Value, api: &str, kind: &str) -> Option<String> {
    let version = api.strip_prefix("kubeadm.k8s.io/")?;
    let four = version == "v1beta4";
    let mut strange = Vec::new();
    let mut check =
        |value: &Value, path: &str, both: &[&str], only_three: &[&str], only_four: &[&str]| {
            let more = if four { only_four } else { only_three };
            for key in value.as_object().into_iter().flat_map(|object| object.keys()) {
                if !both.contains(&key.as_str()) && !more.contains(&key.as_str()) {
                    strange.push(format!("unknown field \"{path}{key}\""));
                }
            }
        };
    let registration = &[
        "name",
        "criSocket",
        "taints",
        "kubeletExtraArgs",
        "ignorePreflightErrors",
        "imagePullPolicy",
    ];
    match kind {
        "InitConfiguration" => {
            check(
                value,
                "",
                &[
                    "apiVersion",
                    "kind",
                    "bootstrapTokens",
                    "nodeRegistration",
                    "localAPIEndpoint",
                    "certificateKey",
                    "skipPhases",
                    "patches",
                ],
                &[],
                &["dryRun", "timeouts"],
            );
            check(
                &value["nodeRegistration"],
                "nodeRegistration.",
                registration,
                &[],
                &["imagePullSerial"],
            );
            check(
                &value["localAPIEndpoint"],
                "localAPIEndpoint.",
                &["advertiseAddress", "bindPort"],
                &[],
                &[],
            );
        }
        "JoinConfiguration" => {
            check(
                value,
                "",
                &[
                    "apiVersion",
                    "kind",
                    "nodeRegistration",
                    "caCertPath",
                    "discovery",
                    "controlPlane",
                    "skipPhases",
                    "patches",
                ],
                &[],
                &["dryRun", "timeouts"],
            );
            check(
                &value["nodeRegistration"],
                "nodeRegistration.",
                registration,
                &[],
                &["imagePullSerial"],
            );
            check(
                &value["discovery"],
                "discovery.",
                &["bootstrapToken", "file", "tlsBootstrapToken"],
                &["timeout"],
                &[],
            );
            check(
                &value["discovery"]["bootstrapToken"],
                "discovery.bootstrapToken.",
                &["token", "apiServerEndpoint", "caCertHashes", "unsafeSkipCAVerification"],
                &[],
                &[],
            );
            check(
                &value["controlPlane"],
                "controlPlane.",
                &["localAPIEndpoint", "certificateKey"],
                &[],
                &[],
            );
        }
        "ClusterConfiguration" => {
            check(
                value,
                "",
                &[
                    "apiVersion",
                    "kind",
                    "etcd",
                    "networking",
                    "kubernetesVersion",
                    "controlPlaneEndpoint",
                    "apiServer",
                    "controllerManager",
                    "scheduler",
                    "dns",
                    "certificatesDir",
                    "imageRepository",
                    "featureGates",
                    "clusterName",
                ],
                &[],
                &[
                    "proxy",
                    "encryptionAlgorithm",
                    "certificateValidityPeriod",
                    "caCertificateValidityPeriod",
                ],
            );
            check(
                &value["networking"],
                "networking.",
                &["serviceSubnet", "podSubnet", "dnsDomain"],
                &[],
                &[],
            );
            check(
                &value["apiServer"],
                "apiServer.",
                &["extraArgs", "extraVolumes", "certSANs"],
                &["timeoutForControlPlane"],
                &["extraEnvs"],
            );
            check(
                &value["etcd"]["external"],
                "etcd.external.",
                &["endpoints", "caFile", "certFile", "keyFile"],
                &[],
                &["httpEndpoints"],
            );
        }
        _ => {}
    }
    (!strange.is_empty()).then(|| {
        format!(
            "error unmarshaling configuration schema.GroupVersionKind{{Group:\"kubeadm.k8s.io\", \
         Version:\"{version}\", Kind:\"{kind}\"}}: strict decoding error: {}",
            strange.join(", ")
        )
    })
}
