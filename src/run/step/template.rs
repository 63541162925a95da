//! Steps that create a host's template: the image, the VM around it, the conversion.

use crate::error::{Exit, Failure};
use crate::mark::{Mark, Marked, TAG};
use crate::plan::{action, spec};
use crate::proxmox::{CreateRequest, Params};
use crate::run::context::Context;
use crate::run::look::proxmox;

/// Makes the host download a cloud image.
pub(super) async fn image(context: &Context, it: &action::Image) -> Result<bool, Failure> {
    let action::Image { host, storage, file, url, sha256, .. } = it;
    let client = context.client(host)?;
    let doing = format!("download {url} to `{storage}`");
    let fault = |error| proxmox(&doing, &error).on(host);
    if client.find_file(storage, "import", file).await.map_err(fault)?.is_some() {
        return Ok(false);
    }
    client.download(storage, "import", file, url, sha256).await.map_err(|error| {
        let gone = error.to_string().contains("exit code 8");
        let failure = fault(error);
        if !gone {
            return failure;
        }
        failure.hint(
            "Ubuntu removes dated images after some months: set the newest folder's `url` and \
             `sha256` (its SHA256SUMS) in the profile's `images`"
                .to_owned(),
        )
    })?;
    Ok(true)
}

/// Creates a template from a downloaded image.
pub(super) async fn template(
    context: &Context,
    wanted: &action::Template,
) -> Result<bool, Failure> {
    let host = &wanted.host;
    let client = context.client(host)?;
    let doing = format!("create template {} of {}", wanted.vmid, wanted.os);
    let fault = |error| proxmox(&doing, &error).on(host);
    let mark = Mark {
        cluster: context.cluster.name.clone(),
        node: None,
        spec: wanted.spec.clone(),
        creation: context.creation.clone(),
        machine: None,
        read: None,
    };
    // The list shows that it is absent without an error response, after which the host closes the
    // connection.
    let listed = client.vms().await.map_err(fault)?;
    let config = match listed.iter().any(|vm| vm.vmid == wanted.vmid) {
        true => client.vm_config(wanted.vmid).await.map_err(fault)?,
        false => {
            let request = CreateRequest {
                vmid: wanted.vmid,
                name: format!("k8sha-{}", wanted.os.replace('.', "-")),
                pool: context.cluster.proxmox.pool.clone(),
                claim: mark.claim(&format!("template for {}, made by k8sha", wanted.os)),
                settings: settings(context, wanted),
            };
            client.create_vm(&request).await.map_err(fault)?
        }
    };
    let ours = config.mark().is_some_and(|found| found.node.is_none() && found.spec == wanted.spec);
    if !ours {
        let name = config.name().unwrap_or_default().to_owned();
        let said = format!("VM {} is `{name}`, not that template", wanted.vmid);
        return Err(Failure::new(Exit::NotAsAsked, doing, said).on(host));
    }
    if config.is_template() {
        return Ok(false);
    }
    let want = wanted.disk_gib.map_or(0, |gib| u64::from(gib) << 30);
    if config.disk_size(spec::DISK).is_some_and(|size| size < want) {
        client.resize_disk(wanted.vmid, spec::DISK, want).await.map_err(fault)?;
    }
    client.make_template(wanted.vmid).await.map_err(fault)?;
    Ok(true)
}

/// The hardware that every clone inherits.
fn settings(context: &Context, wanted: &action::Template) -> Params {
    let cluster = &context.cluster;
    let vlan = cluster.network.vlan.map_or(String::new(), |tag| format!(",tag={tag}"));
    Params::new()
        .with("memory", 2048)
        .with("cores", 2)
        .with("cpu", &cluster.proxmox.cpu)
        .with("ostype", "l26")
        .with("scsihw", "virtio-scsi-single")
        .with(spec::DISK, format!("{}:0,import-from={}", wanted.storage, wanted.image))
        .with("boot", format!("order={}", spec::DISK))
        .with("net0", format!("virtio,bridge={}{vlan},firewall=0", cluster.network.bridge))
        // Ubuntu's cloud image hangs at boot without a serial port (Launchpad bug 1573095).
        .with("serial0", "socket")
        .with("agent", "enabled=1")
        .with("tags", TAG)
}
