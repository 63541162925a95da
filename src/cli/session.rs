//! The session of a command: profile, environment, state folder, log and reporter. It resolves
//! arguments, environment variables and profile into one immutable cluster.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::access::{self, Way};
use super::args::Common;
use super::world::World;
use super::{chosen, flags, log, world};
use crate::cluster::Cluster;
use crate::error::{Exit, Failure};
use crate::exits::failure;
use crate::plan::inventory::Inventory;
use crate::profile::{self, Colour, LoadError, Loaded};
use crate::report::{Reporter, Style, event, screen};
use crate::run::context::{Context, Options};
use crate::run::look;
use crate::settings;
use crate::state::State;
use crate::text::one_line;

/// The session of one command.
pub(super) struct Session {
    pub(super) started: Instant,
    pub(super) common: Common,
    /// What the profile, the arguments and the world say together.
    pub(super) cluster: Arc<Cluster>,
    pub(super) state: State,
    pub(super) world: World,
    pub(super) log: Option<PathBuf>,
    pub(super) cancel: CancellationToken,
    way: OnceLock<Way>,
}

impl Session {
    /// Reads the profile, and opens the world, the state folder and the log.
    ///
    /// # Errors
    /// A profile that is wrong, a world that cannot be reached, a folder that cannot be written.
    pub(super) async fn open(
        common: &Common,
        started: Instant,
        command: &str,
    ) -> Result<Self, Failure> {
        let passing = ["ssh", "logs", "kubeconfig", "kubectl"].contains(&command);
        let warnings = match command {
            "plan" => Warnings::Full,
            "status" | "dns" | "doctor" | "destroy" | "routes" => Warnings::None,
            _ if passing => Warnings::None,
            _ => Warnings::Short,
        };
        let mut cluster = load(common, warnings)?;
        access::typed_over(&common.access, &mut cluster)?;
        let world = world::open(common, &mut cluster).await?;
        let state =
            State::open_for(state_folder(common, &world, &cluster)?, settings::sudo_user())?;
        world.adopt(&mut cluster, &state)?;
        // A log outlives its run, even if the world and the state do not.
        let log = match settings::state_home() {
            // Commands that are run by the dozen would push the logs of runs out of the folder.
            _ if passing => None,
            Ok(home) if world.is_passing() => {
                let folder = State::open_for(home.join("simulated"), settings::sudo_user())?;
                Some(folder.log(command)?)
            }
            _ => Some(state.log(command)?),
        };
        log::start(log.as_deref(), common.verbose)?;
        let cancel = CancellationToken::new();
        tokio::spawn(on_interrupt(cancel.clone()));
        Ok(Self {
            started,
            common: common.clone(),
            // Immutable from here on.
            cluster: Arc::new(cluster),
            state,
            world,
            log,
            cancel,
            way: OnceLock::new(),
        })
    }

    /// The reporter for this command's progress.
    pub(super) fn reporter(&self) -> Reporter {
        Reporter::start(style(&self.common))
    }

    /// Runs read-only work until it is done or the user interrupts it.
    ///
    /// # Errors
    /// The work's, or that it was interrupted.
    pub(super) async fn unless_interrupted<T>(
        &self,
        command: &str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        unless(&self.cancel, command, work).await
    }

    /// Takes an inventory. Reports slow hosts, and ends on an interruption.
    ///
    /// # Errors
    /// The look's, or that it was interrupted.
    pub(super) async fn look(
        &self,
        command: &str,
        context: &Arc<Context>,
        scope: &look::Scope,
    ) -> Result<Inventory, Failure> {
        let reporter = self.reporter();
        let listening = event::Scope { step: "look".to_owned(), events: reporter.events() };
        let looked = listening.run(Box::pin(look::take(context, scope)));
        let looked = self.unless_interrupted(command, looked).await;
        reporter.end().await;
        looked
    }

    /// The context of the steps.
    ///
    /// # Errors
    /// Templates that do not render, keys that cannot be written, missing credentials.
    pub(super) fn context(&self, options: Options) -> Result<Arc<Context>, Failure> {
        let auth = |host: &_| match self.world.auth(host) {
            Some(auth) => Ok(auth),
            None => settings::auth(host),
        };
        let templates = templates(&self.common)?;
        let Way { dialer, keys, sudo_password } = self.way()?.clone();
        let world = crate::run::context::World {
            auth: &auth,
            dialer,
            keys,
            sudo_password,
            clock: self.world.clock(),
        };
        Context::new(Arc::clone(&self.cluster), &self.state, &templates, world, options)
            .map(Arc::new)
    }

    /// Access to the nodes, set up once: it asks for a passphrase once and keeps the connection to a
    /// jump host open.
    ///
    /// # Errors
    /// A key that cannot be read, a jump host that is not known.
    pub(super) fn way(&self) -> Result<&Way, Failure> {
        if let Some(way) = self.way.get() {
            return Ok(way);
        }
        let way = if self.world.simulated() {
            access::simulated(&self.state, self.world.dialer())?
        } else {
            access::real(&self.cluster.access, &self.state)?
        };
        Ok(self.way.get_or_init(|| way))
    }

    /// Whether a file outlives this command: a simulation without a folder deletes its files.
    pub(super) fn is_lasting(&self, path: &Path) -> bool {
        !self.world.is_passing() || !path.starts_with(self.state.folder())
    }

    /// The log, if it outlives this command.
    pub(super) fn lasting_log(&self) -> Option<PathBuf> {
        self.log.clone().filter(|log| self.is_lasting(log))
    }

    /// The flags that another command needs to act on the same cluster.
    pub(super) fn flags(&self) -> String {
        flags::same(&self.common)
    }

    /// The default options.
    pub(super) fn options(&self) -> Options {
        Options {
            kubeconfig: self.state.kubeconfig(),
            merge: false,
            wipe_etcd: None,
            parallel_clones: self.cluster.proxmox.parallel_clones,
        }
    }
}

/// Waits for the work, unless it is interrupted. An interruption takes precedence over work that ends at
/// the same instant: the work may have failed because of the interruption, and that failure is not an
/// answer.
async fn unless<T>(
    cancel: &CancellationToken,
    command: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(interrupted(command)),
        done = work => done,
    }
}

/// The failure of a command that was interrupted before it wrote anything.
pub(super) fn interrupted(command: &str) -> Failure {
    let said = "interrupted; nothing was changed";
    Failure::new(Exit::Interrupted, format!("finish `{command}`"), said)
}

/// How a profile's warnings are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Warnings {
    /// Not at all: the command changes nothing, or removes everything.
    None,
    /// A line each.
    Short,
    /// In full, each with its position and fix.
    Full,
}

fn warn(loaded: &Loaded, warnings: Warnings, colour: Colour) {
    if loaded.warnings.is_empty() || warnings == Warnings::None {
        return;
    }
    if warnings == Warnings::Full {
        screen::show(&loaded.render_warnings(colour));
        screen::say("");
        return;
    }
    for warning in &loaded.warnings {
        screen::say(&format!("warning: {}", one_line(&warning.message)));
    }
    screen::say("         (run `k8sha plan` for details and fixes)\n\n");
}

/// The profile; its warnings and complaints go to stderr.
pub(super) fn load(common: &Common, warnings: Warnings) -> Result<Cluster, Failure> {
    let colour =
        if screen::is_terminal() && !settings::no_color() { Colour::On } else { Colour::Off };
    let name = chosen::name(common)?;
    let doing = || format!("use profile `{name}`");
    match profile::load(&name) {
        Ok(loaded) => {
            if !common.quiet && !common.json {
                warn(&loaded, warnings, colour);
            }
            Ok(loaded.cluster)
        }
        Err(LoadError::Rejected(rejected)) => {
            let complaints = profile::render(
                &rejected.complaints,
                &rejected.source.name,
                &rejected.source.text,
                colour,
            );
            screen::show(&complaints);
            screen::say("");
            Err(Failure::new(Exit::Usage, doing(), rejected))
        }
        Err(error) => Err(Failure::caused(Exit::Usage, doing(), error)),
    }
}

/// The built-in cloud-init templates with the user's overrides.
pub(super) fn templates(common: &Common) -> Result<crate::cloudinit::Templates, Failure> {
    use crate::cloudinit::Templates;
    let made = match &common.templates {
        None => Templates::builtin(),
        Some(folder) => Templates::with_overrides(folder),
    };
    made.map_err(|error| failure("read the cloud-init templates", &error))
}

fn state_folder(common: &Common, world: &World, cluster: &Cluster) -> Result<PathBuf, Failure> {
    if let Some(folder) = &common.state {
        return Ok(folder.clone());
    }
    match world.operator(&cluster.name) {
        Some(folder) => Ok(folder),
        None => Ok(settings::state_home()?.join(&cluster.name)),
    }
}

fn style(common: &Common) -> Style {
    if common.quiet {
        Style::Quiet
    } else if common.json {
        Style::Json
    } else if common.verbose == 0 && screen::is_terminal() {
        Style::Rows
    } else {
        Style::Lines { output: common.verbose > 0 }
    }
}

/// The first interruption ends the run in order; the second ends the program.
async fn on_interrupt(cancel: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        if cancel.is_cancelled() {
            std::process::exit(Exit::Interrupted as i32);
        }
        cancel.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_interruption_is_not_read_as_an_answer_of_the_work_that_it_ended() {
        for _ in 0..200 {
            let cancel = CancellationToken::new();
            let part = async {
                let looked = unless(&cancel, "doctor", std::future::pending::<Result<(), _>>());
                // As `doctor` does: what a part failed with becomes a finding.
                Ok(looked.await.is_err())
            };
            let whole = unless(&cancel, "doctor", part);
            let (whole, ()) = tokio::join!(whole, async { cancel.cancel() });
            assert_eq!(whole.unwrap_err().exit, Exit::Interrupted);
        }
    }
}
