//! Logins, privileges, and the permissions of each call.

use serde_json::json;

use super::Bench;

#[tokio::test]
async fn a_refused_login_has_a_reason_and_no_body() {
    let bench = Bench::new().await;
    let good = bench.host().token.clone();
    let wrong = format!("{}0", good);
    for (header, reason) in [
        (None, "No ticket"),
        (Some("Bearer abc".to_owned()), "No ticket"),
        (Some(format!("PVEAPIToken={wrong}")), "Authentication failed!"),
        (Some("PVEAPIToken=ghost@pve!t=1".to_owned()), "Authentication failed!"),
    ] {
        let mut request = bench.request("GET", "/version");
        if let Some(header) = header {
            request = request.header("Authorization", header);
        }
        let reply = bench.send(request).await;
        assert_eq!((reply.status, reply.reason.as_str(), &reply.body), (401, reason, &json!("")));
    }
    // A space instead of the first equals sign is accepted too.
    let request = bench.request("GET", "/version");
    let reply = bench.send(request.header("Authorization", format!("PVEAPIToken {good}"))).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn a_ticket_needs_the_csrf_token_for_writes() {
    let bench = Bench::new().await;
    let password = bench.host().root_password.clone();
    let form = [("username", "root@pam"), ("password", password.as_str())];
    let reply = bench.as_token("", "POST", "/access/ticket", &form).await;
    let ticket = reply.data()["ticket"].as_str().unwrap().to_owned();
    let csrf = reply.data()["CSRFPreventionToken"].as_str().unwrap().to_owned();
    let cookie = format!("PVEAuthCookie={ticket}");
    let get = bench.request("GET", "/version").header("Cookie", &cookie);
    assert_eq!(bench.send(get).await.status, 200);
    let post =
        || bench.request("POST", "/pools").header("Cookie", &cookie).form(&[("poolid", "p")]);
    let reply = bench.send(post()).await;
    assert_eq!(reply.reason, "Permission denied - invalid csrf token");
    assert_eq!(bench.send(post().header("CSRFPreventionToken", &csrf)).await.status, 200);
    let delete = || bench.request("DELETE", "/pools/p").header("Cookie", &cookie);
    let reply = bench.send(delete()).await;
    assert_eq!(reply.reason, "Permission denied - invalid csrf token");
    assert_eq!(bench.send(delete().header("CSRFPreventionToken", &csrf)).await.status, 200);
    // An old ticket renews itself.
    let form = [("username", "root@pam"), ("password", ticket.as_str())];
    assert_eq!(bench.as_token("", "POST", "/access/ticket", &form).await.status, 200);
    let form = [("username", "root@pam"), ("password", "wrong")];
    let reply = bench.as_token("", "POST", "/access/ticket", &form).await;
    assert_eq!((reply.status, reply.reason.as_str()), (401, "authentication failure"));
    assert_eq!(reply.body["message"], "authentication failure\n");
}

#[tokio::test]
async fn a_privilege_separated_token_has_only_the_common_privileges_of_it_and_its_user() {
    let bench = Bench::new().await;
    bench.call("POST", "/access/users", &[("userid", "u@pve")]).await;
    let path = "/access/users/u@pve/token/sep";
    let made = bench.call("POST", path, &[("privsep", "1")]).await;
    assert_eq!(made.data()["full-tokenid"], "u@pve!sep");
    let token = format!("u@pve!sep={}", made.data()["value"].as_str().unwrap());
    let twice = bench.call("POST", path, &[]).await;
    assert_eq!(twice.error("tokenid"), "Token already exists.");
    let node = "/nodes/pve1/status";
    for (grantee, id, status) in [("users", "u@pve", 403), ("tokens", "u@pve!sep", 200)] {
        let form = [("path", "/nodes/pve1"), ("roles", "PVEAuditor"), (grantee, id)];
        assert_eq!(bench.call("PUT", "/access/acl", &form).await.status, 200);
        let reply = bench.as_token(&token, "GET", node, &[]).await;
        assert_eq!(reply.status, status, "{reply:?}");
    }
    let reply = bench.as_token(&token, "GET", "/nodes/pve2/status", &[]).await;
    assert_eq!(reply.reason, "Permission check failed (/nodes/pve2, Sys.Audit)");
    bench.call("PUT", path, &[("expire", "1000")]).await;
    assert_eq!(bench.as_token(&token, "GET", node, &[]).await.status, 401);
}

#[tokio::test]
async fn lists_show_only_what_the_account_may_see() {
    let bench = Bench::new().await;
    bench.template("local-lvm").await;
    let token = bench.user(&[]).await;
    for path in [
        "/nodes/pve1/qemu",
        "/nodes/pve1/storage",
        "/nodes/pve1/tasks",
        "/cluster/resources?type=vm",
        "/pools",
        "/storage",
    ] {
        let reply = bench.as_token(&token, "GET", path, &[]).await;
        assert_eq!((reply.status, reply.data()), (200, &json!([])), "{path}");
    }
    let reply = bench.as_token(&token, "GET", "/access/permissions", &[]).await;
    assert_eq!(reply.data(), &json!({}));
    // Permission is checked before existence.
    let reply = bench.as_token(&token, "GET", "/nodes/pve1/qemu/9999/config", &[]).await;
    assert_eq!(reply.reason, "Permission check failed (/vms/9999, VM.Audit)");
}

#[tokio::test]
async fn a_clone_needs_four_privileges_and_reports_them_one_by_one() {
    let bench = Bench::new().await;
    bench.template("local-lvm").await;
    let token = bench.user(&[]).await;
    let steps = [
        ("Permission check failed (/vms/9000, VM.Clone)", "/vms/9000", "VM.Clone"),
        ("Permission check failed", "/vms/301", "VM.Allocate"),
        (
            "Permission check failed (/storage/local-lvm, Datastore.AllocateSpace)",
            "/storage/local-lvm",
            "Datastore.AllocateSpace",
        ),
        (
            "Permission check failed (/sdn/zones/localnetwork/vmbr0, SDN.Use)",
            "/sdn/zones/localnetwork",
            "SDN.Use",
        ),
    ];
    let clone = async || {
        let form = [("newid", "301"), ("name", "p1")];
        bench.as_token(&token, "POST", "/nodes/pve1/qemu/9000/clone", &form).await
    };
    for (place, (reason, path, privilege)) in steps.into_iter().enumerate() {
        let reply = clone().await;
        assert_eq!((reply.status, reply.reason.as_str()), (403, reason));
        let role = format!("P{place}");
        let form = [("roleid", role.as_str()), ("privs", privilege)];
        bench.call("POST", "/access/roles", &form).await;
        let form = [("path", path), ("roles", role.as_str()), ("users", "u@pve")];
        bench.call("PUT", "/access/acl", &form).await;
    }
    let reply = clone().await;
    assert_eq!(reply.status, 200);
    assert_eq!(bench.wait(reply.data().as_str().unwrap()).await, "OK");
    // The grant on the VM is removed with the VM.
    let reply = bench.as_token(&token, "DELETE", "/nodes/pve1/qemu/301", &[]).await;
    assert_eq!(bench.wait(reply.data().as_str().unwrap()).await, "OK");
    assert_eq!(clone().await.reason, "Permission check failed");
}

#[tokio::test]
async fn each_option_needs_its_own_privilege() {
    let bench = Bench::new().await;
    bench.template("local").await;
    bench.cloned("301", "n").await;
    let token = bench.user(&[("/vms/301", "VM.Config.Options"), ("/", "VM.Audit")]).await;
    let put = async |key: &str, value: &str| {
        let form = [(key, value)];
        bench.as_token(&token, "PUT", "/nodes/pve1/qemu/301/config", &form).await
    };
    for (key, value, reason) in [
        ("tags", "a", "OK"),
        ("cores", "1", "Permission check failed (/vms/301, VM.Config.CPU)"),
        (
            "ciuser",
            "x",
            "Permission check failed (/vms/301, VM.Config.Cloudinit|VM.Config.Network)",
        ),
        ("serial0", "socket", "Permission check failed (/vms/301, VM.Config.HWType)"),
        ("ide3", "none,media=cdrom", "Permission check failed (/vms/301, VM.Config.CDROM)"),
        ("ide0", "local:cloudinit", "Permission check failed (/vms/301, VM.Config.Cloudinit)"),
        ("startup", "order=1", "Permission check failed (/, Sys.Modify)"),
        ("args", "-foo", "only root can set 'args' config"),
    ] {
        assert_eq!(put(key, value).await.reason, reason, "{key}");
    }
    // A user's own token is not root either.
    let reply = bench.put(301, &[("args", "-foo")]).await;
    assert_eq!((reply.status, reply.reason.as_str()), (500, "only root can set 'args' config"));
    let form = [("roleid", "Bad"), ("privs", "VM.Monitor")];
    let reply = bench.call("POST", "/access/roles", &form).await;
    assert_eq!(reply.error("privs"), "invalid format - invalid privilege 'VM.Monitor'");
}

#[tokio::test]
async fn a_task_is_visible_to_its_owner_and_auditors() {
    let bench = Bench::new().await;
    let upid = bench.call("POST", "/nodes/pve1/qemu/100/status/start", &[]).await;
    let upid = upid.data().as_str().unwrap().to_owned();
    assert_eq!(
        bench.wait(&upid).await,
        "Configuration file 'nodes/pve1/qemu-server/100.conf' does not exist"
    );
    let token = bench.user(&[]).await;
    let path = format!("/nodes/pve1/tasks/{upid}/status");
    let reply = bench.as_token(&token, "GET", &path, &[]).await;
    assert_eq!(reply.reason, "Permission check failed (/nodes/pve1, Sys.Audit)");
}

#[tokio::test]
async fn without_quorum_reads_work_and_writes_fail() {
    let bench = Bench::with(super::Topology::Cluster, &["no-quorum@pve1"]).await;
    assert_eq!(bench.call("GET", "/nodes", &[]).await.status, 200);
    let start = bench.call("POST", "/nodes/pve1/qemu/100/status/start", &[]).await;
    assert_eq!((start.status, start.reason.as_str()), (500, "cluster not ready - no quorum?"));
    let pool = bench.call("POST", "/pools", &[("poolid", "p")]).await;
    assert_eq!(pool.reason, "cfs-lock 'file-user_cfg' error: no quorum!");
}

#[tokio::test]
async fn with_a_tag_a_network_card_needs_its_vlan_and_without_the_whole_bridge() {
    let bench = Bench::new().await;
    bench.call("POST", "/nodes/pve1/qemu", &[("vmid", "100"), ("name", "a")]).await;
    let token = bench.user(&[("/vms", "VM.Config.Network VM.Audit")]).await;
    let set = async |net: &str| {
        let form = [("net0", net)];
        let reply = bench.as_token(&token, "PUT", "/nodes/pve1/qemu/100/config", &form).await;
        (reply.status, reply.reason)
    };
    let refused = |path: &str| (403, format!("Permission check failed ({path}, SDN.Use)"));
    let bridge = "/sdn/zones/localnetwork/vmbr0";
    assert_eq!(set("virtio,bridge=vmbr0,tag=5").await, refused(&format!("{bridge}/5")));
    let seen = async || {
        let reply = bench.as_token(&token, "GET", "/nodes/pve1/network?type=any_bridge", &[]).await;
        reply.data().as_array().map(Vec::len)
    };
    assert_eq!(seen().await, Some(0));
    bench.call("POST", "/access/roles", &[("roleid", "Vlan"), ("privs", "SDN.Use")]).await;
    let form = [("path", &*format!("{bridge}/5")), ("roles", "Vlan"), ("users", "u@pve")];
    assert_eq!(bench.call("PUT", "/access/acl", &form).await.status, 200);
    assert_eq!(set("virtio,bridge=vmbr0,tag=5").await.0, 200);
    assert_eq!(seen().await, Some(1), "a bridge of which one may use a VLAN is listed");
    assert_eq!(set("virtio,bridge=vmbr0,tag=6").await, refused(&format!("{bridge}/6")));
    assert_eq!(set("virtio,bridge=vmbr0,trunks=5;7").await, refused(&format!("{bridge}/7")));
    assert_eq!(set("virtio,bridge=vmbr0").await, refused(bridge));
}
