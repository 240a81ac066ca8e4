//! The Helm chart, checked as far as it goes without a Kubernetes: linted and rendered by both lines of Helm with every
//! values file in `ci/`, each object held against Kubernetes' own schemas, the settings read by the real binary, and the
//! mistakes that people make refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::shell::{self, Result};
use crate::tools::{self, HELMS, told};

/// The oldest Kubernetes that Chart.yaml allows, and the newest whose schemas there are.
const KUBERNETES: [&str; 2] = ["1.30.0", "1.37.0"];

/// What each values file must render to, beside being valid. The grace period is preStop + drain + 10, rounded up.
const EXPECTED: [(&str, &[&str]); 4] = [
    ("demo", &["replicas: 3", "terminationGracePeriodSeconds: 53", "kind: PodDisruptionBudget", "demo-redis"]),
    (
        "production",
        &[
            "replicas: 5",
            "terminationGracePeriodSeconds: 108",
            "minAvailable: 60%",
            "secretName: fanfare-apps",
            "sessionAffinity: ClientIP",
            "{clientIP: {timeoutSeconds: 3600}}",
            "externalTrafficPolicy: Local",
        ],
    ),
    ("single", &["replicas: 1", "terminationGracePeriodSeconds: 30", "secret_file = \"/secrets/apps/main\""]),
    ("tls", &["certificate_file = \"/secrets/tls/tls.crt\"", "--to, \"https://"]),
];

/// Every render has these: probes on the admin port, a preStop without a shell, a test.
const ALWAYS: [&str; 4] = [
    "sleep: {seconds: ",
    "httpGet: {path: /live, port: internal}",
    "httpGet: {path: /ready, port: internal}",
    "helm.sh/hook: test",
];

/// The test has these where the nodes speak TLS: it knows them by their certificate.
const TEST_OF_TLS: [&str; 2] = ["mountPath: /secrets/tls", "secretName: fanfare-tls"];

/// Every pod has these: what Kubernetes' "restricted" profile asks for, and more.
const PODS: [&str; 6] = [
    "runAsNonRoot: true",
    "readOnlyRootFilesystem: true",
    "allowPrivilegeEscalation: false",
    "type: RuntimeDefault",
    "automountServiceAccountToken: false",
    "memory: ",
];

/// Values with a mistake, and what must be said of it.
const REFUSED: [(&str, &str); 12] = [
    ("", "More than one node need a Redis"),
    ("redis.embedded.enabled=true,replicaCuont=3", "replicaCuont"),
    ("redis.embedded.enabled=true,redis.url=redis://h", "redis.embedded.enabled is the demo"),
    ("redis.url=redis://h,redis.existingSecret=s", "keep one"),
    ("redis.url=http://h", "redis"),
    ("replicaCount=1,apps.shop.id=a", "key"),
    ("replicaCount=1,apps.shop.id=a,apps.shop.key=k,apps.shop.sceret=s", "sceret"),
    ("replicaCount=1,existingSecret=x,apps.shop.id=a,apps.shop.key=k,apps.shop.secret=s", "keep one"),
    ("replicaCount=1,config.server.listen=0.0.0.0:80", "config.server.listen is set by the chart"),
    ("replicaCount=1,config.sever.workers=2", "sever"),
    ("replicaCount=1,service.sessionAffinity=ClientIp", "sessionAffinity"),
    // The API server would say so, and later.
    ("replicaCount=1,service.externalTrafficPolicy=Local", "service.externalTrafficPolicy is for"),
];

pub(crate) fn run() -> Result<()> {
    let binary = shell::target().join("release/fanfare");
    if !binary.is_file() {
        return Err("chart-check reads the rendered settings with the binary: cargo build --release".into());
    }
    let validate = tools::program("kubernetes-validate")?;
    let files = values_files()?;
    let mut seen = Vec::new();
    for helm in &HELMS {
        let chart = Chart { helm: helm.program()?, out: shell::target().join("chart-check").join(helm.version) };
        fs::create_dir_all(&chart.out).map_err(told(&chart.out))?;
        let mut rendered = Vec::new();
        for file in &files {
            rendered.push(chart.render(file, &binary)?);
        }
        let objects = validated(&validate, &rendered)?;
        for (values, words) in REFUSED {
            chart.refuses(values, words)?;
        }
        let (files, refused) = (files.len(), REFUSED.len());
        seen.push(format!(
            "helm {}: {files} values files linted and rendered to {objects} objects, all valid for Kubernetes {}; \
             {refused} mistakes refused",
            helm.version,
            KUBERNETES.join(" and "),
        ));
    }
    println!("\nThe chart is good.\n{}", seen.join("\n"));
    Ok(())
}

/// The files in `ci/`, each with a row above.
fn values_files() -> Result<Vec<PathBuf>> {
    let folder = chart().join("ci");
    let entries = fs::read_dir(&folder).map_err(told(&folder))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let names: Vec<String> = files.iter().map(|file| name(file)).collect();
    let expected: Vec<&str> = EXPECTED.iter().map(|(name, _)| *name).collect();
    if names == expected {
        Ok(files)
    } else {
        Err(format!("{} has {names:?}, the table in chart_check.rs {expected:?}", folder.display()))
    }
}

fn chart() -> PathBuf {
    shell::root().join("helm/fanfare")
}

/// `demo` of `demo-values.yaml`.
fn name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    name.trim_end_matches("-values.yaml").to_owned()
}

/// The chart in the hands of one Helm.
struct Chart {
    helm: PathBuf,
    out: PathBuf,
}

impl Chart {
    fn command(&self, verb: &str) -> Command {
        let mut command = shell::command(&[&self.helm.display().to_string(), verb]);
        // A Helm that finds no settings of this machine's user.
        for name in ["HELM_CONFIG_HOME", "HELM_CACHE_HOME", "HELM_DATA_HOME"] {
            command.env(name, self.out.join("home"));
        }
        command
    }

    /// Lints and renders it with these values, and looks at what came out.
    fn render(&self, values: &Path, binary: &Path) -> Result<PathBuf> {
        shell::run(self.command("lint").args(["--quiet", "--strict", "--values"]).arg(values).arg(chart()))?;
        let output = finished(self.command("template").args(["try", "--values"]).arg(values).arg(chart()))?;
        if !output.status.success() {
            return Err(format!("{}: {}", values.display(), String::from_utf8_lossy(&output.stderr)));
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let name = name(values);
        let own = EXPECTED.iter().find(|(expected, _)| *expected == name).map_or(&[][..], |(_, words)| *words);
        if let Some(absent) = ALWAYS.iter().chain(own).find(|words| !text.contains(**words)) {
            return Err(format!("{}: `{absent}` is not in what it renders to", values.display()));
        }
        let test = text.split("\n---").find(|object| object.contains("helm.sh/hook: test")).unwrap_or_default();
        if let Some(absent) = TEST_OF_TLS.iter().find(|words| name == "tls" && !test.contains(**words)) {
            return Err(format!("{}: a test without `{absent}`:\n{test}", values.display()));
        }
        for object in text.split("\n---").filter(|object| has_pod(object)) {
            if let Some(absent) = PODS.iter().find(|words| !object.contains(**words)) {
                return Err(format!("{}: a pod without `{absent}`:\n{object}", values.display()));
            }
        }
        let file = self.out.join(format!("{name}.yaml"));
        fs::write(&file, &text).map_err(told(&file))?;
        self.read_settings(&name, &text, binary)?;
        Ok(file)
    }

    /// The settings file in the ConfigMap, read by the binary, with files in place of the mounted secrets; without TLS, since
    /// there is no certificate here.
    fn read_settings(&self, name: &str, rendered: &str, binary: &Path) -> Result<()> {
        let secrets = self.out.join("secrets");
        let settings = without_tls(&settings(rendered)).replace("\"/secrets/", &format!("\"{}/", secrets.display()));
        for line in settings.lines() {
            if let Some((key, path)) = line.split_once("_file = \"") {
                let path = PathBuf::from(path.trim_end_matches('"'));
                let folder = path.parent().unwrap_or(&secrets);
                fs::create_dir_all(folder).map_err(told(folder))?;
                fs::write(&path, if key == "url" { "redis://redis:6379" } else { "secret" }).map_err(told(&path))?;
            }
        }
        let file = self.out.join(format!("{name}.toml"));
        fs::write(&file, settings).map_err(told(&file))?;
        let mut check = shell::command(&[&binary.display().to_string(), "check-config", "--config"]);
        for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("FANFARE_")) {
            check.env_remove(variable);
        }
        shell::run(check.arg(&file))
    }

    fn refuses(&self, values: &str, words: &str) -> Result<()> {
        let output = finished(self.command("template").args(["try", "--set", values]).arg(chart()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        match (output.status.success(), said.contains(words)) {
            (false, true) => Ok(()),
            (true, _) => Err(format!("--set {values}: must be refused, and is rendered")),
            (false, false) => Err(format!("--set {values}: must be refused with `{words}`, and is with: {said}")),
        }
    }
}

fn has_pod(object: &str) -> bool {
    object.lines().any(|line| ["kind: Deployment", "kind: Pod"].contains(&line))
}

/// The text of `fanfare.toml` in the ConfigMap.
fn settings(rendered: &str) -> String {
    let inside = rendered.lines().skip_while(|line| line.trim() != "fanfare.toml: |").skip(1);
    let lines = inside.take_while(|line| line.is_empty() || line.starts_with("    "));
    lines.map(|line| format!("{}\n", line.trim())).collect()
}

fn without_tls(settings: &str) -> String {
    let mut inside = false;
    let kept = settings.lines().filter(|line| {
        if line.starts_with('[') {
            inside = *line == "[tls]";
        }
        !inside
    });
    kept.map(|line| format!("{line}\n")).collect()
}

/// Holds the files against the schemas; gives the number of objects in them.
fn validated(validate: &Path, files: &[PathBuf]) -> Result<usize> {
    let mut objects = 0;
    for version in KUBERNETES {
        let mut command = shell::command(&[&validate.display().to_string(), "--strict", "-k", version]);
        let output = finished(command.args(files))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        objects = said.lines().filter(|line| line.contains(" passed for resource ")).count();
        if !output.status.success() || objects == 0 {
            return Err(format!("not valid for Kubernetes {version}:\n{said}"));
        }
    }
    Ok(objects)
}

fn finished(command: &mut Command) -> Result<Output> {
    command.output().map_err(|error| format!("{:?} did not start: {error}", command.get_program()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_are_what_is_indented_below_their_name() {
        let rendered = "data:\n  fanfare.toml: |\n    \n    [server]\n    workers = 2\n---\nkind: Service\n";
        assert_eq!(settings(rendered), "\n[server]\nworkers = 2\n");
        assert_eq!(without_tls("[tls]\nkey_file = 1\n\n[server]\nworkers = 2\n"), "[server]\nworkers = 2\n");
    }
}
