//! The scripts of presence, one Lua file each; they alone change the keys of presence. Each is safe to repeat.

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
        }
    }

    /// Makes the server know them all: a pipeline has no fallback of its own for one that it does not know.
    pub(super) async fn load(&self, connection: &mut impl redis::aio::ConnectionLike) -> redis::RedisResult<()> {
        for script in [&self.hello, &self.beat, &self.reap, &self.join, &self.leave, &self.roster] {
            script.load_async(connection).await?;
        }
        Ok(())
    }
}
