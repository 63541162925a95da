//! `k8sha generate`: shell completions, the profile's JSON Schema and man pages.

use std::path::Path;
use std::{fs, io};

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

use super::args::Generated;
use crate::error::{Exit, Failure};

/// Writes the requested output to stdout, or into the folder `out`; `shape` is the whole command
/// line.
///
/// # Errors
/// If it cannot be written.
pub(super) fn run(
    shape: Command,
    what: Generated,
    shell: Shell,
    out: Option<&Path>,
) -> Result<Exit, Failure> {
    let files = match what {
        Generated::Schema => {
            vec![("k8sha.profile.json".to_owned(), crate::profile::schema().into_bytes())]
        }
        Generated::Completions => vec![completions(shape, shell)],
        Generated::Man => man(shape)
            .map_err(|error| Failure::caused(Exit::Local, "render the man pages", error))?,
    };
    match out {
        None => {
            for (_, text) in files {
                super::print_document(&String::from_utf8_lossy(&text))?;
            }
        }
        Some(folder) => write(folder, &files).map_err(|error| {
            let doing = format!("write to the folder `{}`", folder.display());
            Failure::caused(Exit::Local, doing, error)
        })?,
    }
    Ok(Exit::Ok)
}

/// A completion script, with the file name under which the shell looks for it.
fn completions(mut shape: Command, shell: Shell) -> (String, Vec<u8>) {
    use clap_complete::Generator as _;
    let mut bytes = Vec::new();
    let name = shape.get_name().to_owned();
    clap_complete::generate(shell, &mut shape, name.as_str(), &mut bytes);
    (shell.file_name(&name), bytes)
}

/// The man page of the program and one of each command, with their file names.
fn man(shape: Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    // The command that only prints help has no page of its own.
    let mut root = shape.disable_help_subcommand(true);
    // Only a built command has the names (`k8sha up`) and the common options of its subcommands.
    root.build();
    let page = |command: &Command| {
        let man = Man::new(command.clone());
        let name = man.get_filename();
        let mut bytes = Vec::new();
        man.render(&mut bytes)?;
        Ok((name, bytes))
    };
    std::iter::once(&root).chain(root.get_subcommands()).map(page).collect()
}

fn write(folder: &Path, files: &[(String, Vec<u8>)]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    files.iter().try_for_each(|(name, text)| fs::write(folder.join(name), text))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args::Cli;

    fn write_to(folder: &Path, what: Generated, shell: Shell) {
        run(Cli::command(), what, shell, Some(folder)).unwrap();
    }

    #[test]
    fn each_command_gets_a_man_page_with_its_own_options() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("man");
        write_to(&out, Generated::Man, Shell::Bash);
        let page = |name: &str| fs::read_to_string(out.join(name)).unwrap();
        assert!(page("k8sha.1").contains(".TH k8sha 1"), "{}", page("k8sha.1"));
        let destroy = page("k8sha-destroy.1");
        assert!(destroy.contains("keep\\-etcd") && destroy.contains("profile"), "{destroy}");
        let commands = Cli::command().get_subcommands().count();
        assert_eq!(fs::read_dir(&out).unwrap().count(), commands + 1);
    }

    #[test]
    fn a_file_has_the_name_that_its_reader_looks_for() {
        let folder = tempfile::tempdir().unwrap();
        write_to(folder.path(), Generated::Completions, Shell::Zsh);
        write_to(folder.path(), Generated::Schema, Shell::Bash);
        assert!(folder.path().join("_k8sha").exists());
        assert!(folder.path().join("k8sha.profile.json").exists());
    }
}
