//! Every bound, with the assertion that proves it.
//!
//! Every loop, queue and table in Baton has a limit, and the limits are written here.

/// Records for which a walk over the table has started memory fetches before it reads the first of
/// them.
pub const WALK_AHEAD: usize = 16;

/// Frames of a burst that a worker processes while the memory that it fetches for one of them
/// arrives.
pub const FETCH_AHEAD: usize = 8;
const _: () = assert!(2 * FETCH_AHEAD < BURST);

/// Frames that a worker takes from a ring at a time.
pub const BURST: usize = 64;

/// Bytes of a UMEM chunk. A V2V frame is at most 1,092 bytes with tag and label, so half a page
/// holds one and its headroom; the kernel refuses chunks below 2,048.
pub const CHUNK_BYTES: usize = 2048;

/// Bytes of a UMEM chunk that the driver fills itself. A driver may give its device the space after
/// the headroom only in whole KiB (igb: BSIZEPKT of SRRCTL): of 2,048 bytes that would be one KiB,
/// and a frame with a data payload is longer.
pub const CHUNK_ZERO_COPY_BYTES: usize = 4096;
const _: () =
    assert!((CHUNK_ZERO_COPY_BYTES - 256) / 1024 * 1024 >= FRAME_BYTES_MAX && CHUNK_BYTES <= CHUNK_ZERO_COPY_BYTES);

/// The longest V2V frame: Ethernet 14, 802.1Q 4, addresses and reserved 18, label 4, data payload
/// 1,056.
pub const FRAME_BYTES_MAX: usize = 14 + 4 + 18 + 4 + 1056;
const _: () = assert!(FRAME_BYTES_MAX + 256 + 32 <= CHUNK_BYTES, "a frame, XDP headroom and metadata fit a chunk");

/// The default number of meetings in a table.
pub const MEETINGS_DEFAULT: u32 = 65_536;
/// The default number of terminals in a table.
pub const TERMINALS_DEFAULT: u32 = 262_144;
/// The most meetings (parts) or terminals that a table can be created for: slot numbers are 32
/// bits, the top ones reserved.
pub const SLOTS_MAX: u32 = 1 << 30;

/// Bytes of a terminal's additional information, at most.
pub const INFO_BYTES_MAX: usize = 64;
/// Bytes of additional information that fit in a REPORT.
pub const INFO_BYTES_SHORT: usize = 6;

/// Members of one meeting over all its domains.
pub const MEMBERS_MAX: usize = 8192;
const _: () = assert!(MEMBERS_MAX <= u16::MAX as usize, "participants is a u16 on the wire");
/// Domains that one meeting may span.
pub const PARTS_MAX: usize = 256;
/// Autonomous domains in a configuration.
pub const DOMAINS_MAX: usize = 1024;
/// Domains without an autonomous server of their own that are behind others, in total.
pub const DOMAINS_BEHIND_MAX: usize = 65_536;
/// MAC addresses that are tried in turn for a domain whose link is not up: the one that answered
/// last and those heard since. More than two, because somebody who repeats old frames may do so
/// from several.
pub const HOPS_TRIED: usize = 4;
const _: () = assert!(HOPS_TRIED > 2);
/// Pages of a STATE answer for one meeting: a record has at least 32 bytes, so a page holds at most
/// 31.
pub const STATE_PAGES_MAX: usize = 1024;
const _: () = assert!(STATE_PAGES_MAX * 10 >= MEMBERS_MAX, "ten terminals of the longest information fit a page");

/// Interfaces of a dispatch server, at most.
pub const INTERFACES_MAX: usize = 8;
/// Worker threads of an engine, at most; owner numbers in the table are 8 bits.
pub const WORKERS_MAX: usize = 64;

/// Control frames on their way from workers to the control thread.
pub const CONTROL_QUEUE: usize = 8192;
/// Control frames that wait for a worker to send them.
pub const OUTBOX_QUEUE: usize = 1024;
/// Client requests that wait for the control thread.
pub const REQUEST_QUEUE: usize = 1024;
/// Commands to autonomous servers that are outstanding at once.
pub const COMMANDS_IN_FLIGHT_MAX: usize = 4096;
/// Commands outstanding at one autonomous server, so that a thousand conferences started at once do
/// not overrun its ring.
pub const COMMANDS_WINDOW: u16 = 256;
/// Requests whose answers an autonomous server remembers at least (wire.md, rule 9).
pub const TRANSACTIONS_REMEMBERED: u32 = 8192;
const _: () = assert!(
    2 * TAKEOVER_WINDOW_MAX as u32 + 4 * STATE_QUERIES_MAX as u32 + 2 * COMMANDS_WINDOW as u32
        <= TRANSACTIONS_REMEMBERED,
    "what is outstanding is remembered"
);

/// Microseconds for which the kernel runs the driver for a worker that found its ring empty and
/// polls busily: one look, no wait.
pub const BUSY_POLL_US: u32 = 1;
/// V2V frames that a MAC address may send at once if its rate is limited; more, if a tenth of a
/// second's frames are more.
pub const SOURCE_BURST_MIN: u32 = 64;
/// How often the keeper sends the engine the counts of steered frames.
pub const STEERED_INTERVAL: std::time::Duration = std::time::Duration::from_secs(1);
/// How often the keeper checks whether the interfaces have changed.
pub const INTERFACES_CHECKED: std::time::Duration = std::time::Duration::from_millis(500);
const _: () =
    assert!(INTERFACES_CHECKED.as_nanos() < STEERED_INTERVAL.as_nanos(), "once at each time that it wakes up");
/// Frames that a call hands to the interface at most, if the kernel has that option.
pub const SEND_BUDGET: u32 = 4 * BURST as u32;

/// Transmit chunks that a socket leaves with the kernel, sent or not, before it checks which are
/// sent.
pub const UNCOLLECTED_MAX: usize = 4 * BURST;
/// Bytes of a thread's stack. A standby touches all of it, and the kernel frees all of it at the
/// thread's death.
pub const STACK_BYTES: usize = 512 << 10;

/// Heap that a standby holds ready beyond what it uses, in bytes: for what it allocates between its
/// predecessor's death and the first answers, so that none of it is a page fault.
pub const STANDBY_HEAP_BYTES: usize = 16 << 20;

/// Generations that the database reserves at a time, of the 65,536 that a term has. Half of a block
/// is for take-overs by engines that do not live long enough to reserve the next block.
pub const GENERATION_BLOCK: u16 = 1024;
/// How far an epoch may be above a server's own term if that server is given control over it. An
/// autonomous server can name any epoch.
pub const TERMS_PASSED_MAX: u32 = 65_536;

/// Nanoseconds that an acknowledgement may wait for others before it is sent. wire.md: "at most 1
/// ms later".
pub const ACK_DELAY_NS: u64 = 500_000;

/// TAKEOVER_BATCH pages outstanding at one autonomous server, at most.
pub const TAKEOVER_WINDOW_MAX: u16 = 256;
/// TAKEOVER_BATCH pages outstanding before the autonomous server said how many it accepts.
pub const TAKEOVER_WINDOW_FIRST: u16 = 8;
/// STATE_QUERY requests outstanding at one autonomous server, at most.
pub const STATE_QUERIES_MAX: u16 = 256;
/// Meetings of each kind that a report names; it counts the others.
pub const REPORT_NAMES_MAX: usize = 1000;
/// Connections of clients at once. When all are taken, the one that has been idle longest is closed
/// to make room; further ones wait in the kernel's backlog while every connection has a request
/// under way.
pub const CONNECTIONS_MAX: usize = 512;
/// Bytes of a Unix socket's path: `sun_path` of unix(7) has 108, of which the last one is zero.
pub const SOCKET_BYTES_MAX: usize = 107;
/// How long a connection of a client may have no request under way, from its start or its last
/// answer.
pub const IDLE_MAX: std::time::Duration = std::time::Duration::from_secs(30);
/// How long the body of a request may take: it comes from a process on the same machine.
pub const BODY_MAX: std::time::Duration = std::time::Duration::from_secs(10);
/// The pause after a failed accept, such as for want of descriptors.
pub const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
/// Bytes of a request's body: enough for the largest meeting with every member written out.
pub const BODY_BYTES_MAX: usize = 1 << 20;
const _: () = assert!(BODY_BYTES_MAX >= MEMBERS_MAX * 96, "a member is written in fewer than 96 bytes");
/// Bytes of a meeting's name.
pub const NAME_BYTES_MAX: usize = 128;
/// Ids of ended meetings that the database remembers.
pub const ENDED_KEPT: u64 = 65_536;
/// Commits that one flush of the database covers.
pub const COMMIT_GROUP: usize = 1024;
/// Jobs that wait for the database: every operation under way has at most one.
pub const DATABASE_QUEUE: usize = OPERATIONS_MAX + 64;
/// Operations on meetings under way at once, including those that wait for their turn.
pub const OPERATIONS_MAX: usize = 2048;
const _: () = assert!(REQUEST_QUEUE <= OPERATIONS_MAX, "what waits for the control thread can be taken on");
/// Times that a request of recovery is sent before the lack of a usable answer is reported. It is
/// still sent after that.
pub const ATTEMPTS_SAID_AFTER: u32 = 10;
/// Answers to a takeover page that match nothing in it, before the page's meetings count as
/// refused.
pub const NONSENSE_MAX: u32 = 3;
/// Orphans of a domain that are noted, reported and shown; further ones are counted.
pub const ORPHANS_MAX: usize = 16_384;
/// Listed meetings of a domain that wait until the database knows them; further ones are listed
/// again then.
pub const UNDECIDED_MAX: usize = 4_096;
/// Records of one listing: a longer one is considered endless.
pub const LISTED_MAX: u32 = 1 << 22;
/// Times that REPLAY_DONE is repeated because its subject changed in the meantime, before the last
/// answer counts.
pub const AUDIT_CHASES_MAX: u32 = 6;
/// The longest pause before a meeting is asked for again that an autonomous server has refused, and
/// before a domain with a differing number of meetings is listed again.
pub const REFUSED_PAUSE_MAX: std::time::Duration = std::time::Duration::from_secs(60);
/// The pause between two questions about meetings of a domain whose terminals report what the table
/// does not have.
pub const STRAYS_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
/// Times that REPLAY_DONE is sent before an autonomous server's silence is an alarm.
pub const AUDIT_SILENCE_ATTEMPTS: u32 = 5;

/// Engines that a keeper starts in sequence without a pause although none of them gained control.
pub const RESTARTS_FREE: u32 = 5;
/// The longest pause, in milliseconds, between two starts of an engine that does not gain control.
pub const RESTART_PAUSE_MS_MAX: u64 = 10_000;
/// How long an engine's threads may stand still before its keeper kills it, by default.
pub const HANG_DEFAULT: std::time::Duration = std::time::Duration::from_secs(1);
/// The smallest allowed setting: a healthy thread without work counts two rounds in this time.
pub const HANG_MS_MIN: u64 = 500;
/// How often a keeper reads its engine's pulse in that time.
pub const HANG_LOOKS: u32 = 8;
/// The longest sleep of the control thread. Workers sleep for less (`link::thread`).
pub const CONTROL_SLEEP_MAX: std::time::Duration = std::time::Duration::from_millis(250);
const _: () = assert!(CONTROL_SLEEP_MAX.as_millis() as u64 * 2 <= HANG_MS_MIN);
/// A new engine that does not control yet may stand still for this many times as long as one that
/// controls: it maps everything and starts its threads. Twice as long for each failed engine before
/// it, up to [`START_PATIENCE_MAX`], so that a slow machine succeeds in the end.
pub const START_PATIENCE: u32 = 5;
/// See [`START_PATIENCE`].
pub const START_PATIENCE_MAX: std::time::Duration = std::time::Duration::from_secs(120);
/// Notices of one engine that a keeper processes before it attends to its other duties.
pub const NOTICES_PER_ROUND: u32 = 64;
/// Next hops that an engine reports to its keeper in a second, at most: those of every domain at
/// once, twice.
pub const NEXT_HOPS_PER_SECOND: u32 = 2 * DOMAINS_MAX as u32;
/// Notices in a second above which an engine is considered faulty, and killed: twice what a correct
/// engine sends, because notices sent while the keeper was not scheduled arrive at once.
pub const NOTICES_PER_SECOND: u32 = 2 * NEXT_HOPS_PER_SECOND;
/// Invalid notices after which an engine is killed.
pub const NOTICES_NONSENSE_MAX: u32 = 8;
/// Orders that wait for a control thread; if there is no room for further ones, the keeper does not
/// wait.
pub const ORDERS_MAX: usize = 64;
/// Engines in a row that failed by themselves, after which everything that they can have damaged is
/// made anew.
pub const RENEW_AFTER: u32 = 3;
const _: () = assert!(RENEW_AFTER < RESTARTS_FREE, "before the pauses begin");
/// Bytes of a log line that are written at once: what a pipe with room accepts without waiting
/// (PIPE_BUF).
pub const LOG_WRITE_BYTES: usize = 4096;
/// Bytes of a manifest: the whole configuration, with the most domains and all their keys.
pub const MANIFEST_BYTES_MAX: u64 = 16 << 20;
/// Milliseconds that a new keeper waits until the processes of a dead one are gone.
pub const PREDECESSOR_WAIT_MS: u64 = 10_000;
/// Commands that wait for room in their lane, at most, before a further operation begins.
pub const COMMANDS_WAITING_MAX: usize = 65_536;
const _: () = assert!(COMMANDS_WAITING_MAX >= 2 * (MEMBERS_MAX + PARTS_MAX), "the largest conference can be started");
/// Ids of other owners' meetings that are skipped when one is chosen.
pub const TAKEN_IDS_MAX: usize = 1 << 16;
/// Commands that were given up unanswered and whose late answers are still recognised.
pub const COMMANDS_GIVEN_UP_MAX: usize = 8192;
/// Operations without a client that are under way at once: those that a death interrupted, and
/// those that continue after their client stopped waiting.
pub const OPERATIONS_BACKGROUND_MAX: usize = 512;
/// The highest meeting id that a client may choose: a JSON number holds it exactly in every
/// language.
pub const MEETING_ID_MAX: u64 = (1 << 53) - 1;

/// Bytes of additional information that a terminal's line in the table holds itself, as many as a
/// REPORT has; longer information needs an extent.
pub const INFO_BYTES_INLINE: usize = INFO_BYTES_SHORT;
/// One extent for this many terminals: it limits how many may have additional information that is
/// longer than a line holds.
pub const TERMINALS_PER_EXTENT: u32 = 5;
const _: () = assert!(
    TERMINALS_PER_EXTENT > 2,
    "an extent is twice as long as a terminal's line: more of them cost as much again"
);
/// The smallest number of extents of a table.
pub const EXTENTS_MIN: u32 = 64;
/// Extents that a writer examines for a free one before it reports that there is none.
pub const EXTENT_PROBES_MAX: u32 = 4096;
/// Faults of the table that workers found and the control thread has not yet handled.
pub const TROUBLES_MAX: usize = 64;
/// Terminals without room for their additional information that are named in the log; further ones
/// are counted.
pub const FULL_NAMED_MAX: usize = 32;
/// One in this many of a table's terminals is reserved for domains that have less than their share.
pub const QUOTA_LAST_PART: u32 = 8;
/// Terminals that lists bring into a table between two checks of how much room there is.
pub const QUOTA_RECOUNT_EVERY: u32 = 1024;
/// Slots that are read to count each domain's terminals, for each terminal that a list brings in
/// when room is short.
pub const QUOTA_SLOTS: u32 = 256;
/// Threads that may write to a table: the control thread and the workers.
pub const OWNERS_MAX: usize = WORKERS_MAX + 1;
const _: () = assert!(OWNERS_MAX < 255, "a claim names its owner in 8 bits, 0 being nobody");
/// Times that a worker tries for a record that another writer has, before it leaves the report to
/// its repetition. A claim is held for the time of some twenty stores.
pub const CLAIM_TRIES_WORKER: u32 = 256;
/// Times that a change of membership tries for a record that another writer has, yielding the
/// processor in between.
pub const CLAIM_TRIES_CONTROL: u32 = 65_536;
/// Tries for a claimed record after which the writer checks whether the claim's owner exists: far
/// more than a claim takes.
pub const CLAIM_JUDGED_EVERY: u32 = 64;
const _: () = assert!(CLAIM_JUDGED_EVERY < CLAIM_TRIES_WORKER, "a worker comes to look, too");
/// Times that a reader starts again because a record was published twice while it was read.
pub const READ_TRIES_MAX: u32 = 65_536;
/// Times that a walk along a chain starts again because membership changed in the meantime, before
/// it uses the live bitmap instead, which no change disturbs.
pub const WALK_TRIES_MAX: u32 = 16;
/// Flaws that are listed when a table is verified.
pub const FLAWS_MAX: usize = 64;
/// Slots between two progress reports of a long operation.
pub const PROGRESS_EVERY: u64 = 1 << 16;
/// Looks at an apparent flaw of a table in use that must agree before it counts as one.
pub const LOOKS: u32 = 5;
/// Looks in total; a place that has not been stable by then is reported as undecided.
pub const LOOKS_MAX: u32 = 20;
/// The pause between two looks. A writer that was not scheduled during all of them would be taken
/// for a dead one.
pub const LOOK_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);
/// Times that one look starts again because a writer was there.
pub const LOOK_TRIES_MAX: u32 = 1024;
/// Places of a table in use that are looked at again.
pub const SUSPECTS_MAX: usize = 1024;
/// Entries of an AF_XDP ring, at least. With powers of two from here on, every queue's chunks begin
/// on a page, as they must.
pub const RING_ENTRIES_MIN: u32 = 64;
const _: () = assert!((RING_ENTRIES_MIN as usize * CHUNK_BYTES).is_multiple_of(4096));
/// Entries of an AF_XDP ring, at most: 128 MiB of chunks each.
pub const RING_ENTRIES_MAX: u32 = 65_536;
/// Times that binding to a queue is tried while the kernel removes its last owner.
pub const BIND_ATTEMPTS: u32 = 100;
/// The pause between two tries: two seconds in all.
pub const BIND_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Acknowledgements in one REPORT_ACK_BATCH page.
pub const ACKNOWLEDGEMENTS_PER_PAGE: usize = 63;

/// Received entries that a worker holds back at most before it sends the acknowledgements that they
/// wait for and releases them.
pub const HELD_MAX: usize = 512;
const _: () =
    assert!(HELD_MAX >= BURST && HELD_MAX <= 1024, "half of the smallest receive ring that is configured by default");

/// Received entries that an overloaded worker searches at a time for urgent frames.
pub const LOOK_AHEAD: usize = 512;
/// Entries waiting in a receive ring at which its worker is overloaded and sheds reports that
/// change nothing, then all reports, then probes too. Each step ends at half of its number. The
/// first is some 300 µs of work, so that control frames wait less than a millisecond with any
/// number of reports; the last is half of the default ring.
pub const SHED_AT: [usize; 3] = [512, 1024, 2048];
/// In a smaller ring, the same steps begin when this part of it is full: an eighth, a quarter,
/// half.
pub const SHED_AT_PART: [usize; 3] = [8, 4, 2];
const _: () = assert!(RING_ENTRIES_MIN as usize / SHED_AT_PART[0] / 2 > 0, "the smallest ring's overload has an end");
const _: () =
    assert!(HELD_MAX + LOOK_AHEAD <= 1024, "what is held fits a quarter of the ring that is configured by default");
/// Nanoseconds between two BUSY answers of a worker to one domain.
pub const BUSY_PAUSE_NS: u64 = 1_000_000;
/// BUSY answers in a burst, at most.
pub const BUSY_PER_BURST: usize = 8;
/// The time to wait in a BUSY answer, in nanoseconds: a lasting overload is not over sooner.
pub const BUSY_RETRY_NS: u64 = 100_000_000;

/// Nanoseconds that an idle worker polls its ring before it sleeps, if it is configured to do so.
pub const SPIN_NS: u64 = 50_000;

/// Frames that the control thread queues for a worker before it wakes it.
pub const POSTED_MAX: usize = 16;

/// Frames, requests and outcomes of each kind that the control thread takes in one round.
pub const CONTROL_BATCH: usize = 256;
/// Outcomes of the database's thread that the control thread has not yet taken.
pub const DATABASE_OUTCOMES: usize = DATABASE_QUEUE + 16;
/// How long an engine that ends waits for the database while a dying process holds it, and how
/// often this wait is reported.
pub const DATABASE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Bytes of a line of a histogram log that is read.
pub const LOG_LINE_BYTES_MAX: usize = 1 << 20;
/// Decoded bytes of a histogram in such a line. Three digits over a day are 30,000 counts, of at
/// most nine bytes.
pub const LOG_HISTOGRAM_BYTES_MAX: usize = 1 << 19;
/// Intervals of the histogram log that an engine keeps in memory: ten minutes of them.
pub const RECENT_INTERVALS_MAX: usize = 600;
/// How long after its start a recovery is written to the log at the latest: an autonomous server
/// that cannot be reached must not keep the others out of the log.
pub const RECOVERY_NOTED_AFTER: std::time::Duration = std::time::Duration::from_secs(10);
/// Connections of metrics readers over TCP at once.
pub const SCRAPERS_MAX: usize = 8;
/// The longest duration of such a connection.
pub const SCRAPE_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// How old the newest snapshot of a table in use is at most: the next one is begun so early that it
/// is in its place by then.
pub const SNAPSHOT_AGE_MAX: std::time::Duration = std::time::Duration::from_secs(60);
/// How long after its table is whole an engine begins its first one: its predecessor may have died
/// while it wrote the one that was due.
pub const SNAPSHOT_FIRST: std::time::Duration = std::time::Duration::from_secs(5);
/// How long a table that is not whole keeps the snapshot that it is being warmed from: one of it
/// would hold less.
pub const SNAPSHOT_WHOLE_WITHIN: std::time::Duration = std::time::Duration::from_secs(600);
/// Bytes of the database's pages that are kept in an engine's own memory. The page cache has them
/// as well; and what a process has of its own the kernel takes apart when it dies, at 40 to 80 µs a
/// megabyte, on a processor that the successor wants.
pub const DATABASE_CACHE_BYTES: usize = 32 << 20;
/// Recovery's updates that wait for the database: further ones are left to the next recovery, which
/// learns the same.
pub const JOURNAL_UPDATES_MAX: usize = 1 << 20;
/// Rounds of a busy control thread after which it checks its channel to the keeper in any case.
pub const BUSY_ROUNDS_MAX: u32 = 64;
/// Parts of the database that are looked at in one call for those that no listing named: some
/// milliseconds' work. A domain may have a million that were named.
pub const SWEEP_LOOKS: u32 = 256;
/// Parts of a snapshot that are looked at in one call: about as many as a takeover asks for.
pub const WARM_LOOKS: usize = 64;
/// Parts and members that come from a snapshot into the table in one round of the control thread:
/// some milliseconds' work, and of one part more than these at most.
pub const WARM_ROUND: u32 = 8192;
/// Parts of the table that are looked at in one call for those in doubt.
pub const DOUBT_LOOKS: u32 = 4096;
/// Parts that a round of the control thread copies from the database into a new table: about a
/// millisecond's work.
pub const FILL_BATCH: usize = 64;
/// The highest real-time priority that an engine may give its threads.
pub const REALTIME_PRIORITY_MAX: u64 = 10;
/// Engines that a starter has running at once: one in control, those that wait, and those whose
/// memory is being freed.
pub const ENGINES_MAX: usize = 8;
/// Milliseconds that a keeper waits for an answer of its starter, which has nothing else to do.
/// Less than half of the time after which the service manager considers the keeper itself dead
/// (`WatchdogSec` of the unit), so that the keeper can report why it ends.
pub const STARTER_WAIT_MS: u64 = 4_000;
/// Bytes of text in an engine's message that are passed on, to another engine or to a client.
pub const WORDS_BYTES_MAX: usize = 1024;
/// Descriptors that a service manager stores for a keeper: a socket for each worker, the frames'
/// memory of each interface, and a few single ones.
pub const STORED_MAX: usize = WORKERS_MAX + 16;

/// How long a standby may take until it stands by: it maps and touches everything, beside an engine
/// that may be recovering.
pub const STANDBY_READY: std::time::Duration = std::time::Duration::from_secs(60);

/// The default trial of an upgrade's program, in seconds.
pub const UPGRADE_TRIAL_S: u64 = 30;
/// The longest trial, in seconds. During the trial, the previous program stands by.
pub const UPGRADE_TRIAL_S_MAX: u64 = 3600;
/// How long the new program may take to stand by; then the upgrade is refused.
pub const UPGRADE_READY: std::time::Duration = std::time::Duration::from_secs(10);
/// How long the engine that hands over finishes what clients have asked for.
pub const UPGRADE_DRAIN: std::time::Duration = std::time::Duration::from_secs(1);
/// How long after the order to hand over an engine is given up, and killed: its successor waits.
pub const UPGRADE_YIELD: std::time::Duration = std::time::Duration::from_secs(5);

/// Frames that a load prepares before it sends them live, in turn: 256 MiB of them.
pub const LOAD_FRAMES_MAX: u32 = 1 << 21;
/// Bytes of a frame of a load: the longest on usual Ethernet, without what that adds on the wire.
pub const LOAD_FRAME_BYTES_MAX: usize = 1514;
const _: () = assert!(LOAD_FRAME_BYTES_MAX >= FRAME_BYTES_MAX && LOAD_FRAME_BYTES_MAX <= CHUNK_BYTES);
/// Terminals that a load sends for.
pub const LOAD_TERMINALS_MAX: u32 = LOAD_FRAMES_MAX;
/// Frames of one load: one bit for each says whether it was answered.
pub const LOAD_COUNT_MAX: u64 = 1 << 32;
/// Frames sent at the highest rate whose times are still known when their answers come.
pub const LOAD_TIMES: usize = 1 << 18;
/// Trials of one search for a rate.
pub const LOAD_TRIALS_MAX: u32 = 64;
