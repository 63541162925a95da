//! The templates of `cloudinit/`: embedded, overridable file by file, compiled at startup.

use std::fs;
use std::path::{Path, PathBuf};

use tera::{Kwargs, State, Tera, Value};

use super::Error;

use crate::files::{Kind, read_text};

/// The namespace of the user's own templates in the engine.
const MINE: &str = "mine/";
/// The namespace of the built-in templates, so that `{% include "builtin/…" %}` reaches them in an
/// override.
const BUILTIN: &str = "builtin/";

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/cloudinit/", $name)))),*]
    };
}

/// Every file of `cloudinit/` except its README: the name inside the folder and the text.
pub const TEMPLATES: &[(&str, &str)] = embedded![
    "files/apt-bootstrap.conf",
    "files/apt-keys.conf",
    "files/apt-keys.sh",
    "files/check-haproxy.sh",
    "files/cilium-cli.sh",
    "files/containerd.sh",
    "files/crictl.yaml",
    "files/etcd.env",
    "files/etcd.service",
    "files/etcd.sh",
    "files/haproxy.cfg",
    "files/hosts",
    "files/hosts.toml",
    "files/import-images.sh",
    "files/keepalived.conf",
    "files/keepalived.service",
    "files/kernel.sh",
    "files/load-modules.sh",
    "files/modules.conf",
    "files/needrestart.conf",
    "files/sysctl.conf",
    "files/vrrp-interface.sh",
    "files/vrrp-listen.py",
    "etcd.yaml",
    "kubernetes.yaml",
    "load-balancer.yaml",
    "meta-data.yaml",
    "network-config.yaml",
    "user-data.yaml",
];

/// The compiled templates.
#[derive(Debug)]
pub struct Templates {
    tera: Tera,
}

impl Templates {
    /// Compiles the embedded templates.
    ///
    /// # Errors
    /// [`Error::Template`], which a test excludes for these.
    pub fn builtin() -> Result<Self, Error> {
        Self::compile(Vec::new())
    }

    /// Compiles the embedded templates with a folder of overrides: a file there replaces the
    /// built-in template with the same relative name.
    ///
    /// # Errors
    /// [`Error::Folder`] if something in it cannot be read as text, [`Error::Unused`] if a file
    /// there would have no effect, [`Error::Template`] if a template does not compile.
    pub fn with_overrides(folder: &Path) -> Result<Self, Error> {
        let mut mine = Vec::new();
        gather(folder, "", &mut mine)?;
        for (name, _) in &mine {
            let name = name.strip_prefix(MINE).unwrap_or(name);
            let replaces = TEMPLATES.iter().any(|(ours, _)| *ours == name);
            // An additional file that the user's other files include.
            let quoted = [format!("\"{name}\""), format!("'{name}'"), format!("\"{MINE}{name}\"")];
            let taken_in =
                mine.iter().any(|(_, text)| quoted.iter().any(|quoted| text.contains(quoted)));
            if !replaces && !taken_in {
                let known = TEMPLATES.iter().map(|(name, _)| *name).collect();
                return Err(Error::Unused { path: folder.join(name), known });
            }
        }
        Self::compile(mine)
    }

    fn compile(mine: Vec<(String, String)>) -> Result<Self, Error> {
        let mut tera = Tera::new();
        // Nothing here is HTML.
        tera.autoescape_on(Vec::<&str>::new());
        tera.register_filter("yaml", yaml);
        let ours =
            TEMPLATES.iter().map(|(name, text)| (format!("{BUILTIN}{name}"), (*text).to_owned()));
        tera.set_fallback_prefixes([MINE, BUILTIN])
            .and_then(|()| tera.add_raw_templates(ours.chain(mine)))
            .map_err(|error| Error::Template { report: error.to_string() })?;
        Ok(Self { tera })
    }

    pub(super) fn render(&self, name: &str, context: &tera::Context) -> Result<String, String> {
        self.tera.render(name, context).map_err(|error| with_causes(&error))
    }
}

/// Writes any value as YAML on one line. JSON is YAML, and its strings are always quoted.
fn yaml(value: &Value, _: Kwargs, _: &State) -> tera::TeraResult<String> {
    // A missing member of an existing variable reaches a filter, and would be written as null.
    if value.is_undefined() {
        return Err(tera::Error::message("the value is not defined"));
    }
    serde_json::to_string(value).map_err(tera::Error::message)
}

fn gather(folder: &Path, prefix: &str, found: &mut Vec<(String, String)>) -> Result<(), Error> {
    let fault = |path: &Path, source: std::io::Error| Error::Folder {
        path: path.to_owned(),
        source: source.into(),
    };
    let mut paths = fs::read_dir(folder)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<Vec<PathBuf>, _>>()
        })
        .map_err(|source| fault(folder, source))?;
    paths.sort();
    for path in paths {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        // Editors leave hidden files behind, and cloud-init does not use a README.
        if name.starts_with('.') || name.ends_with('~') || name == "README.md" {
            continue;
        }
        let name = format!("{prefix}{name}");
        if path.is_dir() {
            gather(&path, &format!("{name}/"), found)?;
        } else {
            let text = read_text(&path, Kind::Template).map_err(|source| fault(&path, source))?;
            found.push((format!("{MINE}{name}"), text));
        }
    }
    Ok(())
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn folder() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("cloudinit")
    }

    #[test]
    fn the_table_is_exactly_the_folder() {
        let mut found = Vec::new();
        gather(&folder(), "", &mut found).unwrap();
        let found: BTreeSet<_> =
            found.iter().map(|(name, _)| name.strip_prefix(MINE).unwrap()).collect();
        let table: BTreeSet<_> = TEMPLATES.iter().map(|(name, _)| *name).collect();
        assert_eq!(table, found);
    }

    #[test]
    fn the_readme_names_every_variable() {
        let readme = fs::read_to_string(folder().join("README.md")).unwrap();
        let templates = Templates::builtin().unwrap();
        for (name, _) in TEMPLATES {
            let name = format!("{BUILTIN}{name}");
            for variable in templates.tera.get_template_variables(&name).unwrap() {
                let listed = [format!("`{variable}`"), format!("`{variable}.")];
                assert!(
                    // Loop variables are defined by the template.
                    ["image", "master", "mirror", "peer"].contains(&variable)
                        || listed.iter().any(|text| readme.contains(text)),
                    "`{variable}` of {name}"
                );
            }
        }
    }

    #[test]
    fn a_value_cannot_break_out_of_its_place() {
        let mut templates = Templates::builtin().unwrap();
        templates.tera.add_raw_template("one", "a: {{ x | yaml }}").unwrap();
        let mut context = tera::Context::new();
        let hostile = "no\nb: \"1\" # {{ y }}";
        context.insert("x", hostile);
        let text = templates.render("one", &context).unwrap();
        let back: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(back, serde_json::json!({ "a": hostile }));
    }

    #[test]
    fn a_missing_value_is_an_error_and_not_null() {
        let mut templates = Templates::builtin().unwrap();
        templates.tera.add_raw_template("one", "a: {{ node.nmae | yaml }}").unwrap();
        let mut context = tera::Context::new();
        context.insert("node", &serde_json::json!({"name": "k8s1master1"}));
        let report = templates.render("one", &context).unwrap_err();
        assert!(report.contains("nmae") && report.contains("not defined"), "{report}");
    }

    #[test]
    fn a_file_of_the_folder_takes_the_place_of_ours_and_can_still_include_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("files")).unwrap();
        fs::write(
            folder.path().join("files/sysctl.conf"),
            "{% include \"builtin/files/sysctl.conf\" %}vm.max_map_count = 262144\n",
        )
        .unwrap();
        fs::write(folder.path().join(".sysctl.conf.swp"), [0xff]).unwrap();
        let templates = Templates::with_overrides(folder.path()).unwrap();
        let text = templates.render("files/sysctl.conf", &tera::Context::new()).unwrap();
        assert!(text.starts_with("net.ipv4.ip_forward = 1\n"), "{text}");
        assert!(text.ends_with("vm.max_map_count = 262144\n"), "{text}");
    }

    #[test]
    fn a_broken_override_is_refused_before_anything_is_rendered() {
        let folder = tempfile::tempdir().unwrap();
        for (text, want) in [
            ("{{ node.name | upcase }}", "upcase"),
            ("{% include \"files/hots\" %}", "files/hots"),
            ("{% if node %}", "user-data.yaml"),
        ] {
            fs::write(folder.path().join("user-data.yaml"), text).unwrap();
            let error = Templates::with_overrides(folder.path()).unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }

    #[test]
    fn a_file_that_would_do_nothing_is_refused_with_the_names_that_would() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("files")).unwrap();
        fs::write(folder.path().join("files/sysctl.cnf"), "vm.swappiness = 1\n").unwrap();
        let error = Templates::with_overrides(folder.path()).unwrap_err();
        assert!(
            error.to_string().contains("files/sysctl.cnf` overrides no built-in template"),
            "{error}"
        );
        assert!(error.hint().unwrap().contains("files/sysctl.conf"), "{:?}", error.hint());
        let include =
            "{% include \"builtin/files/sysctl.conf\" %}{% include \"files/sysctl.cnf\" %}";
        fs::write(folder.path().join("files/sysctl.conf"), include).unwrap();
        let templates = Templates::with_overrides(folder.path()).unwrap();
        let text = templates.render("files/sysctl.conf", &tera::Context::new()).unwrap();
        assert!(text.ends_with("vm.swappiness = 1\n"), "{text}");
    }

    #[test]
    fn an_unreadable_folder_is_named() {
        let error = Templates::with_overrides(Path::new("/nonexistent/k8sha")).unwrap_err();
        assert!(error.to_string().contains("`/nonexistent/k8sha`"), "{error}");
    }
}
