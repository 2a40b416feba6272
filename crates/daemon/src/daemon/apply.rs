//! How a configuration comes into force.

use anyhow::{Context as _, Result, bail};
use crypto::{OsRandom, Random};
use proto::member::Member;

use super::persistence::Restored;
use super::{Daemon, ports};
use crate::agreement::Agreement;
use crate::configuration::Loaded;
use crate::interfaces::Interfaces;
use crate::sockets::Routes;
use crate::{log, settings};

impl Daemon {
    /// Puts a configuration into force. What can fail comes first: after an error everything is as it was.
    pub(super) fn apply(&mut self, loaded: Loaded) -> Result<()> {
        // Prepare.
        let mut trace_files = Vec::new();
        for options in &loaded.model.trace_options {
            let file = log::TraceFile::open(options, &self.command_line.log_dir).with_context(|| {
                format!("{}: file {}", options.place.path, options.file.as_deref().unwrap_or(""))
            })?;
            trace_files.extend(file);
        }
        let random = || -> Result<Box<dyn Random + Send>> { Ok(Box::new(OsRandom::new()?)) };
        let member_random = random()?;
        let key =
            |group: &config::model::Group| self.signing_keys.key(&group.name, group.signature_algorithm);
        let server_settings = loaded
            .model
            .server
            .as_ref()
            .map(|server| settings::server(server, self.clock.epoch(), key))
            .transpose()?;
        let cluster =
            |configuration: &config::Configuration| configuration.server.as_ref().and_then(settings::cluster);
        let moves = self.server.is_some() && cluster(&loaded.model) != cluster(&self.active.model);
        let restored = match (&self.server, &server_settings) {
            (Some(_), _) if !moves => None,
            (_, Some(settings)) => {
                Some(self.restore(settings.clone(), loaded.model.server.as_ref(), random()?)?)
            }
            (_, None) => None,
        };
        self.open_instances(&loaded.model);
        let (started, problems) = self.start_data_paths(loaded.model.member.is_some());
        if let Some(problem) = problems.into_iter().next() {
            bail!(problem);
        }
        if started {
            // Closed before anything is said to anybody.
            let before = std::mem::replace(&mut self.active, loaded.clone());
            self.protection.configure(&self.active.model, &self.state);
            self.interfaces = Interfaces::new(&self.active.model);
            self.publish();
            self.active = before;
        }
        self.sockets.listen(&self.instances.namespaces(), &ports(&loaded.model))?;

        // Apply.
        self.log.set_files(trace_files);
        let now = self.clock.now();
        match (&mut self.server, server_settings) {
            (Some(server), Some(settings)) if !moves => {
                server.configure(now, settings);
                if let (Some(durable), Some(configured)) = (&mut self.durable, &loaded.model.server) {
                    durable.handle_configured(now, Agreement::of(configured), server);
                }
            }
            // What it has kept stays, for the day when it is configured again.
            (Some(server), _) => server.shut_down(now),
            (None, _) => {}
        }
        if let Some(Restored { server, mut durable, local }) = restored {
            let was_alone = self.keeps_a_file();
            self.abandon_evictions();
            if moves {
                self.drain();
                self.close_state();
            }
            // What is in the file is whole now.
            durable.begin(now, if was_alone { self.local_state() } else { Ok(local) });
            self.server = Some(server);
            self.durable = Some(durable);
        }
        let lanes = self.command_line.lanes();
        let settings = loaded.model.member.as_ref().map(|member| settings::member(member, lanes));
        match (&mut self.member, settings) {
            (Some(member), Some(settings)) => member.configure(now, settings),
            (None, Some(settings)) => {
                self.member = Some(Member::new(now, settings, member_random));
                self.resume_member();
            }
            (Some(member), None) => member.shut_down(now),
            (None, None) => {}
        }
        self.active = loaded;
        self.protection.configure(&self.active.model, &self.state);
        self.interfaces = Interfaces::new(&self.active.model);
        self.sockets.set_routes(Routes::new(&self.active.model, &self.instances));
        // Before anything is said by a server that is to say nothing.
        self.rest_groups();
        self.drain();
        if self.active.model.server.is_none() {
            self.close_state();
            self.server = None;
        }
        if self.active.model.member.is_none() {
            self.forget_member();
            self.member = None;
        }
        let exists =
            |vpn: &str| self.active.model.member.as_ref().is_some_and(|member| member.vpn(vpn).is_some());
        self.readiness.retain(|vpn, _| exists(vpn));
        self.listening.retain(exists);
        self.join_groups();
        self.publish();
        self.close_instances();
        self.follow_addresses();
        self.tell_readiness();
        self.drain();
        self.watch_unknown_spis();
        Ok(())
    }
}
