//! Uploads, downloads and volumes.

use reqwest::multipart::{Form, Part};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{Bench, Reply};
use crate::site::Topology;

const LOCAL: &str = "/nodes/pve1/storage/local";

async fn upload(bench: &Bench, path: &str, fields: &[(&str, &str)], name: &str) -> Reply {
    let mut form = Form::new();
    for (field, value) in fields {
        form = form.text((*field).to_owned(), (*value).to_owned());
    }
    upload_bytes(bench, path, form, name, b"seed").await
}

async fn upload_bytes(
    bench: &Bench,
    path: &str,
    form: Form,
    name: &str,
    bytes: &'static [u8],
) -> Reply {
    let file = Part::bytes(bytes).file_name(name.to_owned());
    let form = form.part("filename", file);
    // Proxmox's parser requires a length, and reqwest knows it for parts made of bytes.
    let request = bench.request("POST", &format!("{path}/upload")).multipart(form);
    bench.send(request.header("Authorization", format!("PVEAPIToken={}", bench.host().token))).await
}

#[tokio::test]
async fn an_upload_is_a_task_and_then_a_volume_that_a_vm_can_boot_with() {
    let bench = Bench::new().await;
    bench.template("local-lvm").await;
    bench.cloned("101", "a").await;
    let sum: String = Sha256::digest(b"seed").iter().map(|byte| format!("{byte:02x}")).collect();
    let fields = [("content", "iso"), ("checksum-algorithm", "sha256"), ("checksum", sum.as_str())];
    let reply = upload(&bench, LOCAL, &fields, "a b.iso").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.headers["connection"], "close");
    let upid = reply.data().as_str().unwrap();
    assert!(upid.contains(":imgcopy::"), "{upid}");
    assert_eq!(bench.wait(upid).await, "OK");
    let list = bench.get(&format!("{LOCAL}/content?content=iso")).await;
    assert_eq!((&list[0]["volid"], &list[0]["size"]), (&json!("local:iso/a_b.iso"), &json!(4)));
    let drive = [("ide3", "local:iso/a_b.iso,media=cdrom")];
    assert_eq!(bench.put(101, &drive).await.status, 200);
    let blob = bench.sim.shared().look(|world| {
        world.pve.datacenters[0].volume("pve1", "local:iso/a_b.iso").unwrap().blob.clone()
    });
    assert_eq!(bench.sim.shared().store.blob(&blob.unwrap()).as_deref(), Some(&b"seed"[..]));
    // The medium can be deleted while it is in the drive; the next start fails.
    let volume = format!("{LOCAL}/content/local%3Aiso%2Fa_b.iso");
    assert_eq!(bench.task("DELETE", &volume, &[]).await, "OK");
    assert_eq!(bench.task("DELETE", &volume, &[]).await, "OK");
    let start = bench.task("POST", "/nodes/pve1/qemu/101/status/start", &[]).await;
    assert_eq!(start, "volume 'local:iso/a_b.iso' does not exist");
}

#[tokio::test]
async fn an_upload_is_refused_for_its_name_its_type_its_order_and_its_checksum() {
    let bench = Bench::new().await;
    let reply = upload(&bench, LOCAL, &[("content", "iso")], "a.txt").await;
    assert_eq!((reply.status, reply.error("filename")), (400, "wrong file extension"));
    let reply = upload(&bench, LOCAL, &[("content", "snippets")], "a.iso").await;
    assert_eq!(
        reply.error("content"),
        "value 'snippets' does not have a value in the enumeration 'iso, vztmpl, import'"
    );
    let lvm = "/nodes/pve1/storage/local-lvm";
    let reply = upload(&bench, lvm, &[("content", "iso")], "a.iso").await;
    assert_eq!(reply.reason, "can't upload to storage type 'lvmthin'");
    let swapped = [("checksum", "0"), ("checksum-algorithm", "sha256"), ("content", "iso")];
    let reply = upload(&bench, LOCAL, &swapped, "a.iso").await;
    assert_eq!(
        (reply.status, reply.reason.as_str(), &reply.body),
        (400, "Bad Request", &json!(""))
    );
    let zeros = "0".repeat(64);
    let fields = [("content", "iso"), ("checksum-algorithm", "sha256"), ("checksum", &zeros)];
    let reply = upload(&bench, LOCAL, &fields, "a.iso").await;
    let result = bench.wait(reply.data().as_str().unwrap()).await;
    assert!(result.starts_with("checksum mismatch: got '"), "{result}");
    assert_eq!(bench.get(&format!("{LOCAL}/content")).await, json!([]));
}

#[tokio::test]
async fn an_upload_for_another_node_is_a_task_of_the_contacted_node() {
    let bench = Bench::new().await;
    let path = "/nodes/pve2/storage/local";
    let reply = upload(&bench, path, &[("content", "iso")], "a.iso").await;
    let upid = reply.data().as_str().unwrap();
    assert!(upid.starts_with("UPID:pve1:"), "{upid}");
    assert_eq!(bench.wait(upid).await, "OK");
    assert_eq!(bench.get(&format!("{path}/content")).await[0]["volid"], "local:iso/a.iso");
    assert_eq!(bench.get(&format!("{LOCAL}/content")).await, json!([]));
}

#[tokio::test]
async fn an_upload_can_fail_once() {
    let bench = Bench::with(Topology::Cluster, &["upload-reset@pve1"]).await;
    let form = Form::new().text("content", "iso");
    let form = form.part("filename", Part::bytes(&b"seed"[..]).file_name("a.iso"));
    let request = bench.request("POST", &format!("{LOCAL}/upload")).multipart(form);
    let token = format!("PVEAPIToken={}", bench.host().token);
    assert!(request.header("Authorization", token).send().await.is_err());
    assert_eq!(bench.sim.requests().last().unwrap().status, 0);
    assert_eq!(upload(&bench, LOCAL, &[("content", "iso")], "a.iso").await.status, 200);
}

#[tokio::test]
async fn a_download_with_a_wrong_checksum_is_rejected() {
    let bench = Bench::with(Topology::Cluster, &["bad-checksum@pve1"]).await;
    let sum = "ab".repeat(32);
    let other = "cd".repeat(32);
    let fetch = async |url: &str, name: &str, sum: &str| {
        let form = [
            ("content", "import"),
            ("filename", name),
            ("url", url),
            ("checksum", sum),
            ("checksum-algorithm", "sha256"),
        ];
        bench.task("POST", &format!("{LOCAL}/download-url"), &form).await
    };
    let image = "https://cloud-images.ubuntu.com/jammy/jammy.img";
    let mismatch = fetch(image, "j.qcow2", &sum).await;
    assert!(mismatch.ends_with(&format!("!= expect '{sum}'")), "{mismatch}");
    assert_eq!(fetch(image, "j.qcow2", &sum).await, "OK");
    assert_eq!(fetch(image, "j.qcow2", &sum).await, "OK");
    assert_eq!(
        fetch(image, "j.qcow2", &other).await,
        "refusing to override existing file '/var/lib/vz/import/j.qcow2'"
    );
    assert_eq!(fetch("https://x/404.html", "k.qcow2", &sum).await, "download failed: exit code 8");
    let form = [("content", "import"), ("filename", "j.img"), ("url", image)];
    let reply = bench.call("POST", &format!("{LOCAL}/download-url"), &form).await;
    assert_eq!(reply.error("filename"), "invalid filename or wrong extension");
    let form = [("content", "import"), ("filename", "j.qcow2"), ("url", "ftp://x/y")];
    let reply = bench.call("POST", &format!("{LOCAL}/download-url"), &form).await;
    assert_eq!(reply.error("url"), "value does not match the regex pattern");
}

#[tokio::test]
async fn a_storage_reports_its_content_types_and_usage() {
    let bench = Bench::new().await;
    let before = bench.get(&format!("{LOCAL}/status")).await;
    bench.template("local").await;
    let after = bench.get(&format!("{LOCAL}/status")).await;
    assert_eq!(before["total"], after["total"]);
    assert!(after["used"].as_u64() > before["used"].as_u64());
    let list = bench.get("/nodes/pve1/storage?content=import").await;
    let names: Vec<_> = list.as_array().unwrap().iter().map(|s| s["storage"].clone()).collect();
    assert_eq!(names, ["local", "nfs"]);
    let put = [("content", "images")];
    assert_eq!(bench.call("PUT", "/storage/nfs", &put).await.status, 200);
    let upload = upload(&bench, "/nodes/pve1/storage/nfs", &[("content", "iso")], "a.iso").await;
    assert_eq!(upload.reason, "storage 'nfs' does not support 'iso' content");
}

/// The header of a qcow2 image of 48 MiB.
const TINY: &[u8] = b"QFI\xfb\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0\0\x03\0\0\0";

#[tokio::test]
async fn an_uploaded_image_has_its_own_size_and_no_operating_system() {
    let bench = Bench::new().await;
    let form = Form::new().text("content", "import");
    let reply = upload_bytes(&bench, LOCAL, form, "tiny.qcow2", TINY).await;
    assert_eq!(bench.wait(reply.data().as_str().unwrap()).await, "OK");
    let disk = "local:0,import-from=local:import/tiny.qcow2";
    let options = [("vmid", "101"), ("scsi0", disk), ("boot", "order=scsi0")];
    assert_eq!(bench.task("POST", "/nodes/pve1/qemu", &options).await, "OK");
    let drive = bench.config(101).await["scsi0"].clone();
    assert_eq!(drive, "local:101/vm-101-disk-0.qcow2,size=48M");
    let status = "/nodes/pve1/qemu/101/status";
    assert_eq!(bench.task("POST", &format!("{status}/start"), &[]).await, "OK");
    let asked = bench.task("POST", &format!("{status}/shutdown"), &[("timeout", "3")]).await;
    assert_eq!(asked, "VM quit/powerdown failed - got timeout");
    assert_eq!(bench.get(&format!("{status}/current")).await["status"], "running");
}

#[tokio::test]
async fn a_storage_can_be_added_once_and_exists_on_its_nodes() {
    let bench = Bench::new().await;
    let add = [
        ("storage", "both"),
        ("type", "dir"),
        ("path", "/mnt/both"),
        ("content", "iso,images"),
        ("shared", "1"),
    ];
    let reply = bench.call("POST", "/storage", &add).await;
    assert_eq!(*reply.data(), json!({"storage": "both", "type": "dir"}));
    let reply = bench.call("POST", "/storage", &add).await;
    assert_eq!(reply.reason, "create storage failed: storage ID 'both' already defined");
    assert_eq!(bench.get("/storage/both").await["path"], "/mnt/both");
    let reply = upload(&bench, "/nodes/pve1/storage/both", &[("content", "iso")], "a.iso").await;
    let upid = reply.data().as_str().unwrap();
    assert_eq!(bench.wait(upid).await, "OK");
    assert!(
        bench.log(upid).await.contains(&"target file: /mnt/both/template/iso/a.iso".to_owned())
    );
    let there = bench.get("/nodes/pve2/storage/both/content").await;
    assert_eq!(there[0]["volid"], "both:iso/a.iso");
    let short = [("storage", "other"), ("type", "dir")];
    let reply = bench.call("POST", "/storage", &short).await;
    assert_eq!(reply.reason, "create storage failed: missing value for required option 'path'");
}
