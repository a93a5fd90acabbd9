//! Who may do what at a broker: the hub everything, a device next to nothing.
//!
//! Takes    the devices of the registry. Gives the accounts of a `nats-server`'s configuration.
//! Promise  a device has an account apart: whatever it names as the reply to a photo, the receipt stays there. In the hub's
//!          own account a receipt could be made to land in the ledger, as the answer to somebody else's photo.
//! Weak at  an own receipt can be made to appear where another device listens; it is no answer, and is taken for none.

use std::fmt::Write;

use dih_core::{
    device::{Device, Keys},
    topology::subject,
};

/// Where a device may listen for replies: its client must be told so (`custom_inbox_prefix`).
pub fn inbox_prefix(device: &dih_core::DeviceId) -> String {
    format!("_INBOX_{device}")
}

/// What MQTT sessions and retained messages of all devices may take of the disk.
const SESSIONS_BYTES_MAX: &str = "64MB";

/// Subjects on which devices reach the hub, and the hub them.
const SERVICES: [&str; 3] = ["dih.v1.upload.*", "dih.v1.raw.*.*", "dih.v1.link.*"];
const ANSWERS: &str = "dih.v1.answer.>";

/// The accounts, with the public key of the hub; the devices stand in a file beside it.
pub(super) fn accounts(hub: &str, devices_file: &str) -> String {
    let list = |entry: &dyn Fn(&str) -> String, answers: &str| {
        let services = SERVICES.iter().map(|subject| format!("      {{service: {}}}\n", entry(subject)));
        services.chain([format!("      {{stream: {answers}}}\n")]).collect::<String>()
    };
    let exports =
        list(&|subject| format!("\"{subject}\", accounts: [DEVICES]"), &format!("\"{ANSWERS}\", accounts: [DEVICES]"));
    let from_hub = |subject: &str| format!("{{account: HUB, subject: \"{subject}\"}}");
    let imports = list(&from_hub, &from_hub(ANSWERS));
    format!(
        "accounts {{\n  HUB {{\n    jetstream: enabled\n    \
         users: [{{nkey: {hub}, allowed_connection_types: [\"STANDARD\"]}}]\n    \
         exports: [\n{exports}    ]\n  }}\n  \
         DEVICES {{\n    jetstream {{ max_file: {SESSIONS_BYTES_MAX}, max_mem: 0, max_streams: 5 }}\n    \
         include \"{devices_file}\"\n    \
         imports: [\n{imports}    ]\n  }}\n}}\n"
    )
}

/// `users: […]` of the account of devices: of each that has keys one user for NATS and one for MQTT.
pub fn users(devices: &[Device]) -> String {
    let mut users = "# Written by `dih device`; changes are lost.\nusers: [\n".to_owned();
    for (device, keys) in devices.iter().filter_map(|device| Some((device, device.keys.as_ref()?))) {
        let Keys { nkey, password_hash } = keys;
        let id = &device.id;
        let publish =
            format!("[\"{}\", \"{}\", \"{}\"]", subject::upload(id), subject::raw(id, "*"), subject::link(id));
        let answers = format!("\"{0}\", \"{0}.>\"", subject::told(id));
        let inbox = inbox_prefix(id);
        let _ = write!(
            users,
            "  {{nkey: {nkey}, allowed_connection_types: [\"STANDARD\", \"WEBSOCKET\"], permissions: {{\n    \
             publish: {publish}\n    subscribe: [{answers}, \"{inbox}.>\"]}}}}\n  \
             {{user: \"{id}\", password: \"{password_hash}\", allowed_connection_types: [\"MQTT\"], permissions: {{\n    \
             publish: {publish}\n    subscribe: [{answers}]}}}}\n"
        );
    }
    users.push_str("]\n");
    users
}
