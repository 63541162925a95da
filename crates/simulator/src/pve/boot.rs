//! How the boot order follows the drives (qemu-server src/PVE/API2/Qemu.pm, `update_vm_api`).

use std::collections::BTreeMap;

use super::drive::{self, Drive};
use super::state::Vm;

/// The boot order after a change of a VM, if the change affects it: a new CD-ROM comes last, a deleted
/// device is removed. An order set by the change itself is kept.
pub fn follow(vm: &Vm, set: &BTreeMap<String, String>, delete: &[String]) -> Option<String> {
    // Pending changes are ignored.
    let known = vm.config.get("boot");
    let order = known.and_then(|boot| boot.strip_prefix("order="));
    let order = order.filter(|order| !order.is_empty() && !set.contains_key("boot"))?;
    let mut devices: Vec<&str> = order.split(';').filter(|device| !device.is_empty()).collect();
    devices.retain(|device| !delete.iter().any(|gone| gone == device));
    for (key, value) in set.iter().filter(|(key, _)| drive::is_drive(key)) {
        let drive = Drive::parse(value);
        if drive.is_cdrom() && !drive.is_cloudinit() && !devices.contains(&key.as_str()) {
            devices.push(key);
        }
    }
    let now =
        if devices.is_empty() { " ".to_owned() } else { format!("order={}", devices.join(";")) };
    (known != Some(&now)).then_some(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_cdrom_is_added_to_the_boot_order_and_a_deleted_device_removed() {
        let mut vm = Vm::new("pve1");
        let order = |vm: &Vm, key: &str, value: &str, delete: &[&str]| {
            let set = match key {
                "" => BTreeMap::new(),
                key => BTreeMap::from([(key.to_owned(), value.to_owned())]),
            };
            let delete: Vec<_> = delete.iter().map(|key| (*key).to_owned()).collect();
            follow(vm, &set, &delete)
        };
        assert_eq!(order(&vm, "ide3", "local:iso/a.iso,media=cdrom", &[]), None);
        vm.config.insert("boot".to_owned(), "order=scsi0;net0".to_owned());
        let joined = order(&vm, "ide3", "local:iso/a.iso,media=cdrom", &[]);
        assert_eq!(joined.as_deref(), Some("order=scsi0;net0;ide3"));
        assert_eq!(order(&vm, "ide2", "local:101/vm-101-cloudinit.qcow2,media=cdrom", &[]), None);
        assert_eq!(order(&vm, "scsi1", "local:1", &[]), None);
        assert_eq!(order(&vm, "", "", &["net0"]).as_deref(), Some("order=scsi0"));
        assert_eq!(order(&vm, "", "", &["scsi0", "net0"]).as_deref(), Some(" "));
    }
}
