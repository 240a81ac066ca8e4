//! The scripts, one Lua file each; they alone change our keys. Each is safe to repeat, but for `publish` (see `lane`) and `report`.

use redis::Script;

/// Scripts that read or change a roster begin with the same functions.
macro_rules! script {
    ($file:literal) => {
        Script::new(concat!(include_str!("scripts/change.lua"), include_str!(concat!("scripts/", $file))))
    };
}

pub(super) struct Scripts {
    pub hello: Script,
    pub beat: Script,
    pub reap: Script,
    pub join: Script,
    pub leave: Script,
    pub roster: Script,
    pub count: Script,
    pub read: Script,
    pub note: Script,
    pub missed: Script,
    pub report: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            hello: script!("hello.lua"),
            beat: script!("beat.lua"),
            reap: script!("reap.lua"),
            join: script!("join.lua"),
            leave: script!("leave.lua"),
            roster: script!("roster.lua"),
            count: script!("count.lua"),
            read: script!("read.lua"),
            note: script!("note.lua"),
            missed: script!("missed.lua"),
            report: script!("report.lua"),
        }
    }

    /// Makes the server know them all: a pipeline has no fallback of its own for one that it does not know.
    pub(super) async fn load(&self, connection: &mut impl redis::aio::ConnectionLike) -> redis::RedisResult<()> {
        let of_presence = [&self.hello, &self.beat, &self.reap, &self.join, &self.leave, &self.roster];
        let of_channels = [&self.count, &self.read, &self.note, &self.missed, &self.report];
        for script in of_presence.into_iter().chain(of_channels) {
            script.load_async(connection).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    #[test]
    fn each_script_says_what_it_takes_answers_and_costs() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/redis/scripts");
        for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let (name, text) = (file.file_stem().unwrap().to_str().unwrap(), fs::read_to_string(&file).unwrap());
            let head: String = text.lines().take_while(|line| line.starts_with("--")).collect();
            // What the others begin with has no call of its own.
            let says = |words: &[&str]| words.iter().all(|word| head.contains(word));
            let call = format!("-- {}: S, ", name.to_uppercase());
            assert!(name == "change" || says(&[&call, " -> ", "O("]), "{}: {head}", file.display());
        }
    }
}
