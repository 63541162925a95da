// Drives `k8sha sim` with npm's proxmox-api, a Proxmox VE client that knows nothing of k8sha.
//
//   NODE_EXTRA_CA_CERTS=CA.pem node client.mjs ENDPOINTS.json SEED.iso
//
// The first file is the simulator's CA, the second the output of `k8sha sim`, the third a NoCloud seed.
// Each function of CASES is one case; they build on each other, run in order, and the first failure
// ends the run.
//
// The client has no multipart form and cannot upload: its files are downloaded with download-url, and
// the seed is uploaded with the form of its HTTP library.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { rootCertificates } from 'node:tls';

import proxmoxApi, { ProxmoxEngine } from 'proxmox-api';
import { Agent, fetch, FormData } from 'undici';

const NODE = 'pve1';
const [MADE, SYSTEM, LINKED, FULL, SEEDED] = [900, 901, 902, 903, 904];
const KEYS = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ+/a1b2c3 one@example\n';

const host = JSON.parse(readFileSync(process.argv[2], 'utf8')).hosts[NODE];
const { hostname, port } = new URL(host.url);
const [tokenID, tokenSecret] = host.token.split('=');
const address = { host: hostname, port: Number(port) };
const byToken = (more) => proxmoxApi({ ...address, tokenID, tokenSecret, ...more });
const byPassword = (password, more) =>
  new ProxmoxEngine({ ...address, username: 'root@pam', password, ...more });

const api = byToken();
const node = api.nodes.$(NODE);
const root = proxmoxApi(byPassword(host.root_password));

/** Checks that a call is refused, and with which words. */
async function refused(call, ...words) {
  let answer;
  try {
    answer = await call;
  } catch (error) {
    const text = `${error.message} ${error.cause?.message ?? ''}`;
    for (const word of words) assert.ok(text.includes(word), `${word} is not in: ${text}`);
    return;
  }
  assert.fail(`this was not refused: ${JSON.stringify(answer)}`);
}

/** Waits until a task ends, and checks how. */
async function follow(upid, ends = 'OK') {
  assert.match(upid, new RegExp(`^UPID:${NODE}:`));
  for (let round = 0; round < 600; round++) {
    const status = await node.tasks.$(upid).status.$get();
    if (status.status === 'stopped') {
      assert.ok(status.exitstatus.includes(ends), `${upid} ended with ${status.exitstatus}`);
      return status;
    }
    await sleep(100);
  }
  assert.fail(`${upid} did not end`);
}

const volumes = async (content) =>
  (await node.storage.$('local').content.$get({ content })).map(({ volid }) => volid);

const CASES = {
  async tls_is_verified() {
    // With the CAs of Node.js, which do not include the simulator's.
    const world = new Agent({ connect: { ca: rootCertificates } });
    // The client keeps the timer of a failed request running, and the program waits for its end.
    const stranger = byToken({
      queryTimeout: 2000,
      fetch: (url, init) => fetch(url, { ...init, dispatcher: world }),
    });
    await refused(stranger.version.$get(), 'unable to verify the first certificate');
    await world.close();
  },

  async nodes_and_storages_are_listed() {
    assert.match((await api.version.$get()).release, /^9\./);
    const nodes = await api.nodes.$get();
    assert.deepEqual(nodes.map(({ node }) => node).sort(), ['pve1', 'pve2']);
    for (const { status, maxcpu, maxmem } of nodes) {
      assert.equal(status, 'online');
      assert.ok(maxcpu > 0 && maxmem > 0);
    }
    assert.ok((await node.status.$get()).memory.total > 0);
    // Booleans are 0 and 1 in the query.
    const storages = await node.storage.$get({ content: 'images', enabled: true });
    assert.ok(storages.some(({ storage, active }) => storage === 'local-lvm' && active === 1));
    assert.deepEqual(await node.qemu.$get({ full: true }), []);
    assert.deepEqual(await api.cluster.resources.$get({ type: 'vm' }), []);
    const status = await api.cluster.status.$get();
    assert.deepEqual(status.map(({ type }) => type), ['cluster', 'node', 'node']);
    assert.equal(await api.cluster.nextid.$get(), '100');
  },

  async a_ticket_logs_in_and_needs_its_csrf_token_to_write() {
    const engine = byPassword(host.root_password);
    const { ticket, CSRFPreventionToken } = await engine.getTicket();
    assert.match(ticket, /^PVE:root@pam:/);
    assert.ok(CSRFPreventionToken);
    const session = proxmoxApi(engine);
    await session.pools.$post({ poolid: 'foreign', comment: 'made with a ticket' });
    assert.deepEqual(await session.pools.$get(), [
      { poolid: 'foreign', comment: 'made with a ticket' },
    ]);
    engine.CSRFPreventionToken = 'no such token';
    await refused(session.pools.$post({ poolid: 'forged' }), '401', 'invalid csrf token');
    // An expired ticket makes it log in once more.
    engine.ticket = 'PVE:root@pam:00000000::AAAA';
    engine.CSRFPreventionToken = CSRFPreventionToken;
    assert.equal((await session.pools.$get()).length, 1);
    assert.match(engine.ticket, /^PVE:root@pam:[1-9A-F]/);
    await session.pools.$delete({ poolid: 'foreign' });
    assert.deepEqual(await session.pools.$get(), []);
  },

  async a_wrong_login_is_refused() {
    await refused(byPassword('not the password').getTicket(), 'login failed with 401');
    const stranger = byToken({ tokenSecret: '00000000-0000-4000-8000-000000000000' });
    await refused(stranger.version.$get(), '401 Authentication failed!');
  },

  async a_vm_with_a_disk_is_created_and_its_task_followed() {
    const upid = await node.qemu.$post({
      vmid: MADE,
      name: 'foreign',
      memory: '512',
      cores: 1,
      ostype: 'l26',
      agent: 'enabled=1',
      onboot: false,
      scsihw: 'virtio-scsi-single',
      scsi0: 'local-lvm:4',
      net0: 'virtio,bridge=vmbr0',
    });
    const status = await follow(upid);
    assert.equal(status.type, 'qmcreate');
    assert.equal(status.id, String(MADE));
    const log = await node.tasks.$(upid).log.$get({ limit: 500 });
    assert.equal(log.at(-1).t, 'TASK OK');
    const config = await node.qemu.$(MADE).config.$get();
    assert.match(config.scsi0, new RegExp(`^local-lvm:vm-${MADE}-disk-0,.*size=4G`));
    assert.match(config.net0, /^virtio=BC:24:11:/);
    assert.equal(config.onboot, 0);
    assert.equal(config.cores, 1);
    assert.equal(config.boot, 'order=scsi0;net0');
    await refused(
      node.qemu.$post({ vmid: MADE }),
      '500',
      `unable to create VM ${MADE} - VM ${MADE} already exists on node '${NODE}'`,
    );
  },

  async an_iso_and_an_image_are_downloaded() {
    const from = node.storage.$('local')['download-url'];
    const given = { 'checksum-algorithm': 'sha256', checksum: 'ab'.repeat(32) };
    await follow(await from.$post({
      content: 'iso',
      filename: 'foreign.iso',
      url: 'https://images.example/foreign.iso',
    }));
    assert.ok((await volumes('iso')).includes('local:iso/foreign.iso'));
    await follow(await from.$post({
      content: 'import',
      filename: 'foreign.qcow2',
      url: 'https://images.example/foreign.qcow2',
      ...given,
    }));
    assert.deepEqual(await volumes('import'), ['local:import/foreign.qcow2']);
    // A volume's slash is escaped in the path.
    const iso = await node.storage.$('local').content.$('local:iso/foreign.iso').$get();
    assert.ok(iso.size > 0 && iso.path.endsWith('/foreign.iso'), JSON.stringify(iso));
    await refused(
      from.$post({ content: 'iso', filename: 'foreign.exe', url: 'https://images.example/a.iso' }),
      '400',
      'filename',
    );
    await follow(await node.qemu.$post({
      vmid: SYSTEM,
      name: 'foreign-system',
      memory: '1024',
      scsihw: 'virtio-scsi-single',
      scsi0: 'local-lvm:0,import-from=local:import/foreign.qcow2,discard=on',
      ide2: 'local-lvm:cloudinit',
      boot: 'order=scsi0',
      net0: 'virtio,bridge=vmbr0',
    }));
    const config = await node.qemu.$(SYSTEM).config.$get();
    assert.ok(!config.scsi0.includes('import-from') && config.scsi0.includes('size='));
    assert.ok(config.ide2.includes('media=cdrom'));
  },

  async a_template_is_cloned_linked_and_full() {
    const template = node.qemu.$(SYSTEM);
    await follow(await template.template.$post());
    assert.equal((await template.config.$get()).template, 1);
    await follow(await template.clone.$post({ newid: LINKED, name: 'linked' }));
    await follow(await template.clone.$post({ newid: FULL, name: 'full', full: true }));
    const [linked, full] = await Promise.all(
      [LINKED, FULL].map((vmid) => node.qemu.$(vmid).config.$get()));
    assert.match(linked.scsi0, new RegExp(`^local-lvm:base-${SYSTEM}-disk-0/|^local-lvm:vm-${LINKED}-`));
    assert.match(full.scsi0, new RegExp(`^local-lvm:vm-${FULL}-disk-`));
    const vms = await api.cluster.resources.$get({ type: 'vm' });
    assert.deepEqual(vms.map(({ vmid }) => vmid).sort(), [MADE, SYSTEM, LINKED, FULL]);
    assert.ok(vms.every(({ type, node }) => type === 'qemu' && node === NODE));
  },

  async a_vm_is_configured_at_once_and_by_a_task() {
    const vm = node.qemu.$(FULL);
    assert.equal(await vm.config.$put({ cores: 2, memory: '2048', tags: 'npm;foreign' }), null);
    await follow(await vm.config.$post({
      ciuser: 'ubuntu',
      cipassword: 'not to be shown',
      ipconfig0: 'ip=10.101.1.99/24,gw=10.101.1.1',
      nameserver: '10.101.1.2',
      // Proxmox requires the keys percent-encoded inside the form, which encodes them once more.
      sshkeys: encodeURIComponent(KEYS),
    }));
    const config = await vm.config.$get();
    assert.equal(config.cores, 2);
    assert.equal(config.memory, '2048');
    assert.equal(config.tags, 'foreign;npm');
    assert.equal(config.cipassword, '**********');
    assert.equal(decodeURIComponent(config.sshkeys).trim(), KEYS.trim());
    assert.ok((await vm.cloudinit.dump.$get({ type: 'user' })).includes('ssh-ed25519'));
    assert.equal(await vm.config.$put({ delete: 'nameserver' }), null);
    assert.ok(!('nameserver' in (await vm.config.$get())));
    await refused(vm.config.$put({ cores: 0 }), '400', 'cores');
    await follow(await vm.resize.$put({ disk: 'scsi0', size: '32G' }));
    assert.ok((await vm.config.$get()).scsi0.includes('size=32G'));
    await follow(await vm.resize.$put({ disk: 'scsi0', size: '1G' }), 'shrinking disks is not supported');
  },

  async a_snapshot_is_taken_and_removed() {
    const { snapshot } = node.qemu.$(FULL);
    await follow(await snapshot.$post({ snapname: 'before', description: 'taken from npm' }));
    const all = await snapshot.$get();
    assert.deepEqual(all.map(({ name }) => name).sort(), ['before', 'current']);
    assert.equal(all.find(({ name }) => name === 'current').parent, 'before');
    await follow(await snapshot.$('before').$delete());
    assert.deepEqual((await snapshot.$get()).map(({ name }) => name), ['current']);
  },

  async a_vm_is_started_queried_and_stopped() {
    const vm = root.nodes.$(NODE).qemu.$(MADE);
    await refused(vm.agent.ping.$post(), '500', `VM ${MADE} is not running`);
    await follow(await vm.status.start.$post());
    const current = await vm.status.current.$get();
    assert.equal(current.status, 'running');
    assert.equal(current.qmpstatus, 'running');
    assert.ok(current.pid > 0);
    // Its disk has no operating system.
    await refused(vm.agent.ping.$post(), '500', 'QEMU guest agent is not running');
    await refused(vm.agent.exec.$post({ command: ['/bin/echo', 'hello'] }), 'QEMU guest agent is not running');
    await refused(vm.$delete(), '500', `VM ${MADE} is running - destroy failed`);
    await follow(await vm.status.stop.$post());
    assert.equal((await vm.status.current.$get()).status, 'stopped');
  },

  async a_guest_with_a_seed_has_an_agent() {
    const form = new FormData();
    form.set('content', 'iso');
    form.set('filename', new Blob([readFileSync(process.argv[3])]), 'foreign-seed.iso');
    const sent = await fetch(`${host.url}/api2/json/nodes/${NODE}/storage/local/upload`, {
      method: 'POST',
      headers: { Authorization: `PVEAPIToken=${host.token}` },
      body: form,
    });
    assert.equal(sent.status, 200);
    await follow((await sent.json()).data);
    await follow(await node.qemu.$(SYSTEM).clone.$post({ newid: SEEDED, name: 'seeded' }));
    const vm = node.qemu.$(SEEDED);
    assert.equal(await vm.config.$put({
      agent: 'enabled=1',
      ide0: 'local:iso/foreign-seed.iso,media=cdrom',
      delete: 'ide2',
    }), null);
    await follow(await vm.status.start.$post());
    for (let round = 0; ; round++) {
      try {
        await vm.agent.ping.$post();
        break;
      } catch (error) {
        assert.ok(round < 60 && error.message.includes('QEMU guest agent is not running'), error);
        await sleep(200);
      }
    }
    assert.equal((await vm.agent['get-host-name'].$get()).result['host-name'], 'seeded');
    const cards = (await vm.agent['network-get-interfaces'].$get()).result;
    const addresses = cards.flatMap((card) => card['ip-addresses'].map((one) => one['ip-address']));
    assert.ok(addresses.includes('10.101.1.88'), addresses.join(' '));
    // A list is a repeated parameter.
    const { pid } = await vm.agent.exec.$post({ command: ['/bin/echo', 'from', 'Node.js'] });
    assert.deepEqual(await vm.agent['exec-status'].$get({ pid }), {
      exited: 1,
      exitcode: 0,
      'out-data': 'from Node.js\n',
      'out-truncated': 0,
    });
    await refused(vm.agent['exec-status'].$get({ pid }), 'does not exist');
    await follow(await vm.status.shutdown.$post({ timeout: 60 }));
    assert.equal((await vm.status.current.$get()).status, 'stopped');
  },

  async errors_have_proxmoxs_messages() {
    await refused(
      node.qemu.$(999).config.$get(),
      `500 Configuration file 'nodes/${NODE}/qemu-server/999.conf' does not exist`,
    );
    await refused(
      node.qemu.$post({ vmid: 910, colour: 'blue' }),
      '400 Parameter verification failed.',
      'property is not defined in schema',
    );
    await refused(api.nodes.$('pve9').qemu.$get(), "hostname lookup 'pve9' failed");
    await refused(node.nothing.$get(), '501', 'not implemented');
  },

  async everything_is_removed() {
    for (const vmid of [SEEDED, LINKED, FULL, SYSTEM, MADE]) {
      const vm = node.qemu.$(vmid);
      await follow(await vm.$delete({ purge: true, 'destroy-unreferenced-disks': true }));
      await refused(vm.config.$get(), 'does not exist');
    }
    assert.deepEqual(await node.storage.$('local-lvm').content.$get(), []);
    for (const content of ['iso', 'import'])
      for (const volid of await volumes(content)) {
        await follow(await node.storage.$('local').content.$(volid).$delete());
        assert.ok(!(await volumes(content)).includes(volid));
      }
    assert.deepEqual(await node.qemu.$get(), []);
  },
};

const cases = Object.entries(CASES);
for (const [number, [name, run]] of cases.entries()) {
  try {
    await run();
  } catch (error) {
    console.log(`FAILED  ${name}\n${number} passed, 1 failed`);
    throw error;
  }
  console.log(`ok  ${name}`);
}
console.log(`${cases.length} passed, 0 failed`);
