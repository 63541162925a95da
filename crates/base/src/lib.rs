//! What every adapter of k8sha stands on: how fast time passes and how long anything may take
//! ([`clock`], [`limits`]), trying again ([`retry`]), what is told meanwhile ([`event`]), and what comes
//! out of it harmless for a terminal ([`text`]) and without secrets ([`secrets`]); tables ([`table`]) and
//! short hashes ([`hash`]).

pub mod clock;
pub mod event;
pub mod hash;
pub mod limits;
pub mod retry;
pub mod secrets;
pub mod table;
pub mod text;
