//! Guests that flood, are slow, or are not the expected machine.

use std::time::Duration;

use crate::guest::Wild;
use crate::stand::Stand;

/// Runs `up` on an existing cluster with misbehaving guests, with time limits shortened accordingly.
fn up(wild: Wild, haste: f64) -> crate::ran::Ran {
    // So fast that the time limit for booting machines is over in seconds.
    let ran = Stand::built().hurried(haste).speed(2000.0).wild(wild).run(&["up"]);
    assert!(ran.took < Duration::from_secs(60), "{:?}", ran.took);
    ran
}

#[test]
fn a_flood_on_standard_output_is_stopped_at_its_limit() {
    up(Wild::Stdout, 1.0)
        .failed(4, &["printed more than 1 MiB on standard output, which is the limit"]);
}

#[test]
fn a_flood_on_standard_error_is_stopped_at_its_limit() {
    up(Wild::Stderr, 1.0).failed(4, &["printed more than 256 KiB on standard error"]);
}

#[test]
fn a_trickle_is_stopped_by_the_time_limit() {
    up(Wild::Trickle, 6.0).failed(4, &["did not end within 10 s"]);
}

#[test]
fn a_command_that_never_answers_is_stopped_by_the_time_limit() {
    up(Wild::Hang, 6.0).failed(4, &["did not end within 10 s"]);
}

#[test]
fn a_command_without_an_exit_status_is_reported() {
    up(Wild::NoStatus, 1.0).failed(4, &["ended without an exit status"]);
}

#[test]
fn an_endless_identification_is_not_an_ssh_server() {
    up(Wild::Ident, 1.0).failed(4, &["this is not an SSH server"]);
}

#[test]
fn a_silent_server_is_given_up() {
    up(Wild::Mute, 20.0).failed(4, &["connected, but the login timed out after 1 s"]);
}

#[test]
fn an_endless_banner_is_cut_off() {
    up(Wild::Banner, 1.0).failed(4, &["it sends banners of more than 64 KiB"]);
}

#[test]
fn another_machine_is_detected_by_its_host_key() {
    up(Wild::Stranger, 1.0).failed(4, &["does not match the one in its seed: expected SHA256:"]);
}
