//! Guests that flood, dawdle, or are not who they should be.

use std::time::Duration;

use crate::guest::Wild;
use crate::stand::Stand;

/// Runs `up` on a built cluster whose guests are wild, with limits of time that are so much shorter.
fn up(wild: Wild, haste: f64) -> crate::ran::Ran {
    // So fast that the patience with machines that boot is over in seconds.
    let ran = Stand::built().hurried(haste).speed(2000.0).wild(wild).run(&["up"]);
    assert!(ran.took < Duration::from_secs(60), "{:?}", ran.took);
    ran
}

#[test]
fn a_flood_on_standard_output_ends_at_its_limit() {
    up(Wild::Stdout, 1.0)
        .failed(4, &["printed more than 1 MiB on standard output, which is the limit"]);
}

#[test]
fn a_flood_on_standard_error_ends_at_its_limit() {
    up(Wild::Stderr, 1.0).failed(4, &["printed more than 256 KiB on standard error"]);
}

#[test]
fn a_trickle_ends_with_its_time() {
    up(Wild::Trickle, 6.0).failed(4, &["did not end within 10 s"]);
}

#[test]
fn a_command_that_never_answers_ends_with_its_time() {
    up(Wild::Hang, 6.0).failed(4, &["did not end within 10 s"]);
}

#[test]
fn a_command_without_an_exit_status_is_told() {
    up(Wild::NoStatus, 1.0).failed(4, &["ended without an exit status"]);
}

#[test]
fn an_identification_without_end_is_no_ssh_server() {
    up(Wild::Ident, 1.0).failed(4, &["this is not an SSH server"]);
}

#[test]
fn a_server_that_says_nothing_is_not_waited_for() {
    up(Wild::Mute, 20.0).failed(4, &["connected, but the login timed out after 1 s"]);
}

#[test]
fn a_banner_without_end_is_cut() {
    up(Wild::Banner, 1.0).failed(4, &["it sends banners of more than 64 KiB"]);
}

#[test]
fn another_machine_is_told_by_its_key() {
    up(Wild::Stranger, 1.0).failed(4, &["does not match the one in its seed: expected SHA256:"]);
}
