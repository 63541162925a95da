//! Numbers from a seed (SplitMix64), and the edits and losses that they select.

use super::model::{Asked, CPUS, POOLS, Row, pool};

/// A source of numbers determined by a seed.
pub struct Dice(pub u64);

impl Dice {
    /// A number under `below`.
    pub fn roll(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) >> 33).unwrap() % below
    }

    /// One of them.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())].clone()
    }
}

/// Changes the profile randomly, and returns a description.
pub fn edit(asked: &mut Asked, dice: &mut Dice) -> String {
    match dice.roll(20) {
        0..=4 => add(asked, dice),
        5 if asked.rows.len() > 4 => {
            let at = dice.roll(asked.rows.len());
            let row = asked.rows.remove(at);
            format!("remove the row {}", row.name)
        }
        6 | 7 => {
            let at = dice.roll(asked.rows.len());
            let row = asked.rows.remove(at);
            let to = dice.roll(asked.rows.len() + 1);
            let told = format!("move the row {} to place {to}", row.name);
            asked.rows.insert(to, row);
            told
        }
        8 => swap(asked, dice),
        9 | 10 => setting(asked, dice),
        _ => one_row(asked, dice),
    }
}

fn add(asked: &mut Asked, dice: &mut Dice) -> String {
    let spare: Vec<Row> = pool()
        .into_iter()
        .filter(|row| !asked.rows.iter().any(|have| have.name == row.name))
        .collect();
    if spare.is_empty() {
        return one_row(asked, dice);
    }
    let (row, to) = (dice.pick(&spare), dice.roll(asked.rows.len() + 1));
    let told = format!("add the row {} at place {to}", row.name);
    asked.rows.insert(to, row);
    told
}

fn swap(asked: &mut Asked, dice: &mut Dice) -> String {
    let (one, other) = (dice.roll(asked.rows.len()), dice.roll(asked.rows.len()));
    let (mut a, mut b) = (asked.rows[one].clone(), asked.rows[other].clone());
    if one == other {
        return "change nothing".into();
    }
    let what = match dice.roll(6) {
        0 => (std::mem::swap(&mut a.name, &mut b.name), "names").1,
        1 => (std::mem::swap(&mut a.ip, &mut b.ip), "addresses").1,
        2 => (std::mem::swap(&mut a.vmid, &mut b.vmid), "VMIDs").1,
        3 => (std::mem::swap(&mut a.pve, &mut b.pve), "hosts").1,
        4 => (std::mem::swap(&mut a.role, &mut b.role), "roles").1,
        _ => (std::mem::swap(&mut a, &mut b), "places").1,
    };
    let told =
        format!("swap the {what} of {} and {}", asked.rows[one].name, asked.rows[other].name);
    (asked.rows[one], asked.rows[other]) = (a, b);
    told
}

fn setting(asked: &mut Asked, dice: &mut Dice) -> String {
    let values: [(&str, &[&str]); 9] = [
        ("domain", &["home.arpa", "other.arpa"]),
        ("vip", &["30", "29"]),
        ("port", &["6443", "7443"]),
        ("version", &["1.36.4", "1.36.5", "1.35.0"]),
        ("pods", &["10.244.0.0/16", "10.245.0.0/16"]),
        ("services", &["10.96.0.0/16", "10.97.0.0/16"]),
        ("dns_domain", &["cluster.local", "other.local"]),
        ("proxy", &["none", "iptables"]),
        ("cni", &["1.19.8", "1.19.9"]),
    ];
    let at = dice.roll(values.len() + 5);
    if at == values.len() + 4 {
        asked.pool = dice.pick(&[None, Some(POOLS[0]), Some(POOLS[1])]);
        return format!("set the pool to {:?}", asked.pool);
    }
    if at == values.len() {
        asked.vlan = dice.pick(&[None, None, Some(30)]);
        return format!("set the VLAN to {:?}", asked.vlan);
    }
    if at == values.len() + 1 || at == values.len() + 2 {
        asked.cpu = dice.pick(&CPUS).to_owned();
        return format!("set the CPU to {}", asked.cpu);
    }
    let Some((name, of)) = values.get(at) else {
        asked.user = dice.pick(&["ubuntu", "opsen"]).to_owned();
        return format!("set the user to {}", asked.user);
    };
    let value = dice.pick(of).to_owned();
    let told = format!("set {name} to {value}");
    asked.settings.insert(name, value);
    told
}

fn one_row(asked: &mut Asked, dice: &mut Dice) -> String {
    let at = dice.roll(asked.rows.len());
    let row = &mut asked.rows[at];
    let name = row.name.clone();
    let told = match dice.roll(9) {
        0 | 1 => (row.ram = dice.pick(&[2, 4, 6, 8]), format!("ram {}", row.ram)).1,
        2 | 3 => (row.vcpu = dice.pick(&[1, 2, 3, 4]), format!("vcpu {}", row.vcpu)).1,
        4 => (row.disk = dice.pick(&[16, 20, 24, 32]), format!("disk {}", row.disk)).1,
        5 => (row.vmid += dice.pick(&[0, 10, 20]), format!("vmid {}", row.vmid)).1,
        6 => (row.pve = dice.pick(&["pve1", "pve2"]), format!("pve {}", row.pve)).1,
        7 => (row.ip = dice.pick(&[row.ip, 61, 62]), format!("ip {}", row.ip)).1,
        _ => {
            row.role = dice.pick(&["load-balancer", "master", "worker"]);
            format!("role {}", row.role)
        }
    };
    format!("set of {name} {told}")
}
