//! The common base of k8sha's adapters: the speed of time and time limits ([`clock`], [`limits`]),
//! retries ([`retry`]), progress events ([`event`]), output that is safe for a terminal ([`text`]) and
//! free of secrets ([`secrets`]); the cause of an error ([`mod@cause`]); tables ([`table`]) and short
//! hashes ([`hash`]).

pub mod cause;
pub mod clock;
pub mod event;
pub mod hash;
pub mod limits;
pub mod retry;
pub mod secrets;
pub mod table;
pub mod text;
