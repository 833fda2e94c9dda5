#!/usr/bin/env python3
"""Proves that the models bite: seeds one fault at a time into a copy of the engine and demands that a test fails.

    loom-tests/teeth.py [NAME…]      # all faults, or those whose name contains one of the words
    loom-tests/teeth.py --stale      # only whether every fault's text is still there; runs nothing

Each fault is a piece of source text and what to put in its place, with the test that has to catch it. A fault whose
text is not found, or that no longer compiles, is an error, so the list cannot go stale unseen.
Prints a line per fault; exit status 1 unless all were caught.
"""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
SRC = "engine/src/"

# name, file, [(text, replacement)…], file of the model (or engine:FILE, a test of the engine), and the model that has to
# fail: its name, or how that begins
FAULTS = [
    # The ring and the shared count.
    ("ring: W stored relaxed", "ring.rs",
     [("self.item.store(marked(item, lap), Ordering::Release)", "self.item.store(marked(item, lap), Ordering::Relaxed)")],
     "ring", "items_arrive_once"),
    ("ring: W loaded relaxed", "ring.rs",
     [("self.item.load(Ordering::Acquire)", "self.item.load(Ordering::Relaxed)")],
     "ring", "items_arrive_once"),
    ("ring: R stored relaxed", "ring.rs",
     [("self.ring.read.store(self.read, Ordering::Release)", "self.ring.read.store(self.read, Ordering::Relaxed)")],
     "ring", "a_push_enters_whole"),
    ("ring: R loaded relaxed", "ring.rs",
     [("self.ring.read.load(Ordering::Acquire)", "self.ring.read.load(Ordering::Relaxed)")],
     "ring", "a_push_enters_whole"),
    ("ring: a slot handed back before it is read", "ring.rs",
     [("        let item = self.item()?;\n        self.read += 1;\n",
       "        let handed_back = self.read + u64::from(!self.is_empty());\n        self.ring.read.store(handed_back, Ordering::Release);\n        let item = self.item()?;\n        self.read += 1;\n")],
     "ring", "items_arrive_once"),
    ("ring: laps not told apart", "ring.rs",
     [("usize::from(position & slots != 0)", "usize::from(position & slots != 0) * 0")],
     "ring", "items_arrive_once"),
    ("ring: more slots looked at before the few are read", "ring.rs",
     [("if self.read >= more.from {", "if self.read <= more.from {")],
     "ring", "items_arrive_once"),
    ("ring: more slots begin as if nothing had been before", "ring.rs",
     [("self.slots = empty(self.ring.capacity, self.write);", "self.slots = empty(self.ring.capacity, 0);")],
     "ring", "items_arrive_once"),
    ("ring: M stored relaxed", "sync.rs",
     [("self.is_set.store(true, Ordering::Release);", "self.is_set.store(true, Ordering::Relaxed);")],
     "ring", "items_arrive_once"),
    ("ring: M loaded relaxed", "sync.rs",
     [("self.is_set.load(Ordering::Acquire)", "self.is_set.load(Ordering::Relaxed)")],
     "ring", "items_arrive_once"),
    ("ring: the first of several is stored before the others", "ring.rs",
     [("        if self.items > 1 {\n", "        slots[first].fill(first_item, lap);\n        if self.items > 1 {\n"),
      ("        slots[first].fill(first_item, lap);\n        *write", "        *write")],
     "ring", "a_push_enters_whole"),
    ("shared: count lowered relaxed", "shared.rs",
     [("fetch_sub(1, Ordering::Release)", "fetch_sub(1, Ordering::Relaxed)")],
     "shared", "each_update_is_freed_once"),
    ("shared: nothing acquired before the value is freed", "shared.rs",
     [("count.load(Ordering::Acquire)", "count.load(Ordering::Relaxed)")],
     "shared", "each_update_is_freed_once"),
    ("shared: what was not handed out is forgotten", "shared.rs",
     [("counted.count.fetch_sub(handles, Ordering::Release)", "counted.count.fetch_sub(0, Ordering::Release)")],
     "shared", "each_update_is_freed_once"),
    # Readers of one subscription.
    ("reader: the head loaded before the ring is emptied", "reader.rs",
     [("                    let rest = due.unwrap_or(common.capacity + 1);", "                    let rest = due.unwrap_or(0);")],
     "readers", "two_readers_join"),
    ("reader: one turn without end", "reader.rs",
     [("        if self.steps > PASS {", "        if self.steps > usize::MAX - 1 {")],
     "engine:readers", "a_reader_that_never_runs_out"),
    ("reader: figures read under the lock", "reader.rs",
     [("        let (outlook, balance) = common.outlook(seat);", "        let inner = common.lock();\n        let (outlook, balance) = common.outlook(seat);\n        drop(inner);")],
     "engine:readers", "figures_of_readers"),
    ("reader: a reader dropped in a turn does not leave", "reader.rs",
     [("            common.some_departed.store(true, Ordering::Relaxed);\n", "")],
     "engine:readers", "a_reader_dropped_in_the_take"),
    ("reader: T not set", "reader.rs",
     [("        seat.taking.store(true, Ordering::Relaxed);\n", "")],
     "readers", "what_a_lagging_reader_misses"),
    ("reader: T's fence removed", "reader.rs",
     [("        seat.taking.store(true, Ordering::Relaxed);\n        fence(Ordering::SeqCst);\n", "        seat.taking.store(true, Ordering::Relaxed);\n        let _ = fence;\n")],
     "readers", "what_a_lagging_reader_misses"),
    ("reader: T cleared relaxed", "reader.rs",
     [("        seat.taking.store(false, Ordering::Release);", "        seat.taking.store(false, Ordering::Relaxed);")],
     "readers", "what_a_lagging_reader_misses"),
    ("reader: W stored relaxed as entries are freed", "reader.rs",
     [("            shape.left.store(newest.ordinal, Ordering::Release);", "            shape.left.store(newest.ordinal, Ordering::Relaxed);")],
     "readers", "what_has_been_read_is_not_taken_for_missed"),
    ("reader: W loaded relaxed", "reader.rs",
     [("        let left = shape.left.load(Ordering::Acquire);", "        let left = shape.left.load(Ordering::Relaxed);")],
     "readers", "what_has_been_read_is_not_taken_for_missed"),
    ("reader: the subscription does not join the set", "reader.rs",
     [("let wait_set = common.wait_set.clone();", "let wait_set = common.wait_set.clone().filter(|_| false);")],
     "readers", "a_publish_wakes_those"),
    ("reader: what a lagging subscription still brings is not counted", "mailbox.rs",
     [("        self.filled.store(filled, Ordering::Relaxed);\n", "        let _ = filled;\n")],
     "readers", "what_readers_miss_is_told"),
    ("reader: what is in the ring is not counted", "reader.rs",
     [("            (outlook.filled.max(position), outlook.lagging)", "            (position, true)")],
     "engine:readers", "every_reader_follows"),
    ("reader: a jump not noticed", "reader.rs",
     [("Some(entry) if entry.ordinal > cursor + 1 => Step::Snapshot,", "Some(entry) if entry.ordinal > cursor + 3 => Step::Snapshot,")],
     "engine:readers", "every_reader_follows"),
    ("reader: who takes a snapshot stays on what it passed", "reader.rs",
     [("        self.next = inner.end();\n        let since", "        let _ = inner;\n        let since")],
     "engine:readers", "an_update_goes_when"),
    ("reader: who leaves stays on what it has not read", "reader.rs",
     [("        *inner.readers_at(place) -= 1;\n        inner.readers -= 1;", "        let _ = place;\n        inner.readers -= 1;")],
     "engine:readers", "an_update_goes_when"),
    ("reader: the next in the ring taken for the next to read", "reader.rs",
     [("inner.readers == 1 && place.is_next(&update)", "inner.readers == 1")],
     "readers", "a_reader_alone"),
    ("reader: what has left before its turn taken for missed", "reader.rs",
     [("        self.next = self.next.max(inner.start);\n", "        if self.next < inner.start {\n            return Step::Snapshot;\n        }\n")],
     "readers", "what_a_snapshot_covered"),
    ("reader: what was told before is left out", "reader.rs",
     [("        seat.told.at_least(SubscriptionStats {", "        Told::default().at_least(SubscriptionStats {")],
     "engine:readers", "who_stays_behind"),
    ("reader: a full window keeps the oldest", "reader.rs",
     [("        let oldest = if full { self.pop() } else { None };\n", "        if full {\n            return None;\n        }\n        let oldest: Option<Entry<S>> = None;\n")],
     "engine:readers", "who_stays_behind"),
    # The nine steps of a round.
    ("step 1: head loaded after the members were served", "distribute.rs",
     [("        let head = head.load(); // step 1", "        let cell = head;\n        let head = head.load(); // step 1"),
      ("        // Sync point V: pairs with the Acquire load in `wait`.",
       "        let head = cell.load();\n        // Sync point V: pairs with the Acquire load in `wait`.")],
     "role", "nothing_committed_stays"),
    ("step 2: F1 removed", "distribute.rs",
     [("        fence(Ordering::SeqCst); // step 2", "        // step 2")],
     "delivery", "a_batch_is_seen_whole"),
    ("step 3: joiners taken before the head is loaded", "distribute.rs",
     [("        let head = head.load(); // step 1", "        self.take_joiners(table);\n        let head = head.load(); // step 1"),
      ("        self.take_joiners(table);\n        table.due", "        table.due")],
     "delivery", "whoever_joins_during_a_round"),
    ("step 3: joiners taken before news is read", "distribute.rs",
     [("        // Sync point N: pairs with the Release in `Mailbox", "        self.take_joiners(table);\n        // Sync point N: pairs with the Release in `Mailbox"),
      ("        self.take_joiners(table);\n        table.due", "        table.due")],
     "delivery", "whoever_joins_during_a_round"),
    ("step 3: joiners never taken", "distribute.rs",
     [("        self.take_joiners(table);\n", "")],
     "delivery", "a_batch_is_seen_whole"),
    ("step 3: who joins is not looked at", "distribute.rs",
     [("        self.take_joiners(table);\n        table.due", "        table.due"),
      ("        table.looked = Some(news);\n", "        table.looked = Some(news);\n        self.take_joiners(table);\n")],
     "delivery", "whoever_joins_during_a_round"),
    ("step 4: who recovers is not looked at", "distribute.rs",
     [("table.looked == Some(news)", "table.looked.is_some()")],
     "delivery", "after_a_resync_no_update_is_missing"),
    ("step 4: news read before the head is loaded", "distribute.rs",
     [("        let head = head.load(); // step 1", "        let news = self.news.load(Ordering::Acquire);\n        let head = head.load(); // step 1"),
      ("let gone = self.look(table);", "let gone = self.look(table, news);"),
      ("fn look(&self, table: &mut Table<S>)", "fn look(&self, table: &mut Table<S>, news: u64)"),
      ("        let news = self.news.load(Ordering::Acquire);\n        if table", "        if table")],
     "delivery", "after_a_resync_no_update_is_missing"),
    ("step 4: news read after the flags", "distribute.rs",
     [("        table.looked = Some(news);\n", "        table.looked = Some(self.news.load(Ordering::Acquire));\n")],
     "delivery", "whoever_joins_during_a_round"),
    ("step 4: news loaded relaxed", "distribute.rs",
     [("self.news.load(Ordering::Acquire)", "self.news.load(Ordering::Relaxed)")],
     "delivery", "after_a_resync_no_update_is_missing"),
    ("consumer: news raised relaxed", "mailbox.rs",
     [("news.fetch_add(1, Ordering::Release);", "news.fetch_add(1, Ordering::Relaxed);")],
     "delivery", "after_a_resync_no_update_is_missing"),
    ("consumer: news raised before lagging is cleared", "mailbox.rs",
     [("        self.flags.store(0, Ordering::Relaxed);\n", ""),
      ("        news.fetch_add(1, Ordering::Release);\n", "        news.fetch_add(1, Ordering::Release);\n        self.flags.store(0, Ordering::Relaxed);\n")],
     "delivery", "after_a_resync_no_update_is_missing"),
    ("consumer: news raised after F2", "mailbox.rs",
     [("        news.fetch_add(1, Ordering::Release);\n", ""),
      ("        // F2, partner of F1 in a round.\n        fence(Ordering::SeqCst);\n", "        // F2, partner of F1 in a round.\n        fence(Ordering::SeqCst);\n        news.fetch_add(1, Ordering::Release);\n")],
     "delivery", "after_a_resync_no_update_is_missing"),
    ("step 4: flags read before the head is loaded", "distribute.rs",
     [("        let head = head.load(); // step 1",
       "        let flags: Vec<_> = table.members.iter().map(|member| member.mailbox().flags()).collect();\n        let head = head.load(); // step 1"),
      ("let gone = self.look(table);", "let gone = self.look(table, &flags);"),
      ("fn look(&self, table: &mut Table<S>)", "fn look(&self, table: &mut Table<S>, flags: &[crate::mailbox::Flags])"),
      ("self.look_at_all(table, news)", "self.look_at_all(table, news, flags)"),
      ("fn look_at_all(&self, table: &mut Table<S>, news: u64)", "fn look_at_all(&self, table: &mut Table<S>, news: u64, flags: &[crate::mailbox::Flags])"),
      ("let flags = member.mailbox().flags();", "let flags = flags.get(index).copied().unwrap_or_else(|| member.mailbox().flags());")],
     "delivery", "a_version_that_needs_a_snapshot_reaches_everybody"),
    ("step 4: pushes although it does not fit whole", "distribute.rs",
     [("                None => {\n                    overflows += 1;",
       "                None => {\n                    if let Some(room) = member.producer.room(1) {\n                        fill(room);\n                    }\n                    overflows += 1;")],
     "delivery", "a_batch_is_seen_whole"),
    ("step 4: pushes to one that lags", "distribute.rs",
     [("            if member.lagging {\n                continue;\n            }\n", "")],
     "delivery", "after_a_resync_no_update_is_missing"),
    ("step 4: overflow does not set lagging", "distribute.rs",
     [("                    member.lag(self.pushed());\n", "")],
     "delivery", "a_drop_leads"),
    ("step 4: a version that needs a snapshot is taken for nothing", "distribute.rs",
     [("            span.needs_snapshot |= version.needs_snapshot;\n", "")],
     "delivery", "a_version_that_needs"),
    ("step 4: close does not set lagging", "distribute.rs",
     [("            table.all_lag(head.ordinal);\n", "")],
     "close", "everybody_sees_the_end"),
    ("step 4: close counts what it pushed as dropped", "distribute.rs",
     [("            table.all_lag(head.ordinal);\n", "            table.all_lag(self.pushed());\n")],
     "close", "what_a_closing_round_pushed_is_never"),
    ("step 4: the chain's oldest version is left out", "distribute.rs",
     [("        while version.position > distributed {", "        while version.position > distributed + u64::from(distributed > 0) {")],
     "delivery", "a_version_that_needs_a_snapshot_reaches_everybody"),
    ("step 5: distributed not stored", "distribute.rs",
     [("        self.distributed.store(head.position, Ordering::Release); // step 5\n", "")],
     "delivery", "an_unobservable_change_hides_no_update"),
    ("step 5: sequence compared instead of position", "distribute.rs",
     [("self.distributed.store(head.position, Ordering::Release)", "self.distributed.store(head.sequence().get(), Ordering::Release)"),
      ("while version.position > distributed", "while version.sequence().get() > distributed")],
     "delivery", "adopting_a_lower_sequence"),
    ("step 6: F3 removed", "distribute.rs",
     [("        fence(Ordering::SeqCst); // step 6", "        // step 6")],
     "wake", "a_waker_that_panics_keeps_nobody_asleep"),
    ("step 7: nobody is woken", "distribute.rs",
     [("                table.due.push(index);\n", "")],
     "wake", "a_waker_that_panics_keeps_nobody_asleep"),
    ("step 7: only pushes wake", "distribute.rs",
     [("            let member = &self.members[member];\n            match", "            let member = &self.members[member];\n            if member.lagging {\n                continue;\n            }\n            match")],
     "wake", "no_wakeup_is_lost_when_a_round_does_not_fit"),
    ("step 7: a waker's panic ends the round", "distribute.rs",
     [("panics.run(|| waker.wake());", "waker.wake();\n        let _ = &panics;")],
     "wake", "a_waker_that_panics"),
    ("step 8: the role given back by a plain store", "distribute.rs",
     [("if self.word.swap(0, Ordering::AcqRel) & AWAITED != 0 {", "let word = self.word.load(Ordering::Relaxed);\n        self.word.store(0, Ordering::Release);\n        if word & AWAITED != 0 {")],
     "role", "nothing_committed"),
    ("step 8: the role given back without Acquire", "distribute.rs",
     [("if self.word.swap(0, Ordering::AcqRel) & AWAITED != 0 {", "if self.word.swap(0, Ordering::Release) & AWAITED != 0 {")],
     "role", "nothing_committed"),
    ("step 8: the role given back without Release", "distribute.rs",
     [("if self.word.swap(0, Ordering::AcqRel) & AWAITED != 0 {", "if self.word.swap(0, Ordering::Acquire) & AWAITED != 0 {")],
     "role", "a_chain_that_was_cut_means_a_snapshot_for_everyone"),
    ("step 8: the role not given back on panic", "distribute.rs",
     [("            drop(role); // step 8", "            std::mem::forget(role); self.role.swap(0, Ordering::AcqRel);"),
      ("panics.run(|| waker.wake());", "waker.wake();\n        let _ = &panics;"),
      ("            let role = Role {\n                word: &self.role,\n                awaiting: &self.awaiting,\n            };", "            let role = std::mem::ManuallyDrop::new(Role {\n                word: &self.role,\n                awaiting: &self.awaiting,\n            });")],
     "wake", "a_waker_that_panics"),
    ("step 9: the holder does not look again", "distribute.rs",
     [("let newer = head.peek(|head| head.position > leavings.position);", "let newer = head.peek(|head| head.position > leavings.position) && false;")],
     "role", "nothing_committed"),
    ("step 9: the holder looks before giving back", "distribute.rs",
     [("            drop(role); // step 8\n            // Step 9.\n            let newer = head.peek(|head| head.position > leavings.position);",
       "            let newer = head.peek(|head| head.position > leavings.position);\n            drop(role);")],
     "role", "nothing_committed"),
    ("role: taken without Release", "distribute.rs",
     [("while self.role.fetch_or(BITS, Ordering::AcqRel) & TAKEN == 0", "while self.role.fetch_or(BITS, Ordering::Acquire) & TAKEN == 0")],
     "role", "nothing_committed"),
    ("role: taken without Acquire", "distribute.rs",
     [("while self.role.fetch_or(BITS, Ordering::AcqRel) & TAKEN == 0", "while self.role.fetch_or(BITS, Ordering::Release) & TAKEN == 0")],
     "role", "a_chain_that_was_cut_means_a_snapshot_for_everyone"),
    ("role: taken with Relaxed", "distribute.rs",
     [("while self.role.fetch_or(BITS, Ordering::AcqRel) & TAKEN == 0", "while self.role.fetch_or(BITS, Ordering::Relaxed) & TAKEN == 0")],
     "role", "a_chain_that_was_cut_means_a_snapshot_for_everyone"),
    ("role: an attempt that fails writes nothing", "distribute.rs",
     [("while self.role.fetch_or(BITS, Ordering::AcqRel) & TAKEN == 0",
       "while self.role.compare_exchange(0, BITS, Ordering::AcqRel, Ordering::Acquire).is_ok()")],
     "role", "nothing_committed"),
    ("step 4: a chain that was cut is taken for whole", "distribute.rs",
     [("                span.needs_snapshot = true;\n                return span;", "                return span;")],
     "role", "a_chain_that_was_cut"),
    ("steps 6 and 7: woken before anything is pushed", "distribute.rs",
     [("        let served = self.serve(table, &head, &span);\n",
       "        fence(Ordering::SeqCst);\n        for member in &table.members {\n            if let Some(waker) = member.mailbox().waiter().take() {\n                waker.wake();\n            }\n        }\n        self.serve(table, &head, &span);\n        let served = false;\n")],
     "wake", "no_wakeup_is_lost"),
    ("head: loaded relaxed", "sync/modelled.rs",
     [("self.at(self.index.load(Ordering::Acquire))", "self.at(self.index.load(Ordering::Relaxed))")],
     "delivery", "the_head_never_goes_back"),
    ("join: the list taken without Acquire", "sync/modelled.rs",
     [("self.at(self.index.swap(new, Ordering::AcqRel))", "self.at(self.index.swap(new, Ordering::Relaxed))")],
     "delivery", "whoever_joins_during_a_round"),
    ("join: pushed onto the list without Release", "sync/modelled.rs",
     [(".compare_exchange(seen, new, Ordering::AcqRel, Ordering::Acquire)", ".compare_exchange(seen, new, Ordering::Relaxed, Ordering::Relaxed)")],
     "delivery", "whoever_joins_during_a_round"),
    # The consumer.
    ("consumer: head loaded before lagging is cleared", "subscription.rs",
     [("        self.core.distributor.recover(self.mailbox());\n        let version = self.core.head.load();", "        let version = self.core.head.load();\n        self.core.distributor.recover(self.mailbox());")],
     "delivery", "a_batch_is_seen_whole"),
    ("consumer: F2 removed", "mailbox.rs",
     [("        // F2, partner of F1 in a round.\n        fence(Ordering::SeqCst);\n", "")],
     "delivery", "a_batch_is_seen_whole"),
    ("L stored relaxed", "mailbox.rs",
     [(".fetch_or(Flags::LAGGING, Ordering::Release);", ".fetch_or(Flags::LAGGING, Ordering::Relaxed);")],
     "close", "what_a_closing_round_pushes"),
    ("consumer: L loaded relaxed", "mailbox.rs",
     [("Flags(self.flags.load(Ordering::Acquire)).is_lagging()", "Flags(self.flags.load(Ordering::Relaxed)).is_lagging()")],
     "delivery", "what_is_in_the_ring_is_delivered_before_the_snapshot"),
    ("consumer: a snapshot handed out at the cursor", "subscription.rs",
     [("Some(cursor) if ordinal <= cursor => {", "Some(cursor) if ordinal < cursor || (version.is_closed() && ordinal == cursor) => {")],
     "delivery", "after_a_resync_no_update_is_missing"),
    ("consumer: what a snapshot covered is not skipped", "subscription.rs",
     [("self.cursor.is_none_or(|cursor| update.ordinal() > cursor)", "self.cursor.is_none_or(|_| true)"),
      ("debug_assert_eq!(self.cursor, Some(update.ordinal() - 1), \"no gap\");", "")],
     "delivery", "a_batch_is_seen_whole"),
    ("consumer: lagging looked at after the ring", "subscription.rs",
     [("                next = self.consumer.pop();\n", "")],
     "delivery", "what_is_in_the_ring_is_delivered_before_the_snapshot"),
    ("consumer: a delivery is not counted", "mailbox.rs",
     [("        add(&self.delivered, 1);\n", "")],
     "delivery", "a_batch_is_seen_whole"),
    ("consumer: a drop is not counted", "mailbox.rs",
     [("        add(|book| &book.dropped, missed);\n", "        let _ = missed;\n")],
     "delivery", "every_update_is_accounted_for"),
    ("consumer: what a snapshot forced is counted as dropped", "subscription.rs",
     [("let forced = version.forced - forced;", "let forced = forced * 0;")],
     "delivery", "every_update_is_accounted_for"),
    ("consumer: the end comes before what precedes it", "subscription.rs",
     [("        self.ended = snapshot.version.is_closed();\n        Ok(", "        self.ended = snapshot.version.is_closed();\n        if self.ended { return Err(TryNextError::Closed); }\n        Ok(")],
     "close", "everybody_sees_the_end"),
    # Waiting.
    ("waiter: P removed", "waiter.rs",
     [("        // P, partner of F3 in a round: see the argument above.\n        fence(Ordering::SeqCst);\n", "")],
     "wake", "a_waker_that_panics_keeps_nobody_asleep"),
    ("waiter: no look after arming", "subscription.rs",
     [("if self.consumer.is_empty() && !self.mailbox().is_lagging() {", "if true {")],
     "wake", "a_waker_that_panics_keeps_nobody_asleep"),
    ("waiter: the look after arming leaves lagging out", "subscription.rs",
     [("if self.consumer.is_empty() && !self.mailbox().is_lagging() {", "if self.consumer.is_empty() {")],
     "wake", "no_wakeup_is_lost_when_a_round_does_not_fit"),
    ("waiter: the waker is stored after waiting is set", "waiter.rs",
     [("        let replaced = slot.replace(waker);", "        self.waiting.store(true, Ordering::Relaxed);\n        fence(Ordering::SeqCst);\n        let replaced = slot.replace(waker);"),
      ("        // Relaxed: ordered by the fence below.\n        self.waiting.store(true, Ordering::Relaxed);\n        // P, partner of F3 in a round: see the argument above.\n        fence(Ordering::SeqCst);\n", "")],
     "wake", "arming_again_loses_no_wakeup"),
    ("waiter: an old waker is kept", "waiter.rs",
     [("slot.replace(waker)", "Some(slot.get_or_insert(waker).clone())")],
     "wake", "arming_again_loses_no_wakeup"),
    ("waiter: a consumer that meets a distributor at the slot parks", "waiter.rs",
     [("            pause();\n            waker.wake();\n            return;\n", "            return;\n")],
     "wake", "arming_again_loses_no_wakeup"),
    ("waiter: a look after the park is left out", "waiter.rs",
     [("                None => self.parked.thread.park(),", "                None => {\n                    self.parked.thread.park();\n                    self.parked.thread.park();\n                }")],
     "wake", "no_wakeup_is_lost_when_updates_are_pushed"),
    ("waiter: the thread is unparked before the wake is noted", "waiter.rs",
     [("        self.woken.swap(true, Ordering::Relaxed);\n        self.thread.unpark();", "        self.thread.unpark();\n        self.woken.swap(true, Ordering::Relaxed);")],
     "wake", "no_wakeup_is_lost_when_updates_are_pushed"),
    ("waiter: a wake before the park is forgotten", "waiter.rs",
     [("        // Relaxed: a wake hands over nothing by it, see", "        self.parked.woken.store(false, Ordering::Relaxed);\n        // Relaxed: a wake hands over nothing by it, see")],
     "wake", "no_wakeup_is_lost_when_updates_are_pushed"),
    ("waiter: another thread is parked than the one that waits", "subscription.rs",
     [("        let blocking = blocking.filter(Blocking::is_of_this_thread);\n", "")],
     "wake", "a_subscription_blocks_in_whatever_thread"),
    # A reader that has stopped (I17).
    ("stopped: a lock from the look for a wake to the park", "waiter.rs",
     [("    woken: AtomicBool,\n    thread: Parker,", "    woken: AtomicBool,\n    lock: crate::sync::Mutex<()>,\n    thread: Parker,"),
      ("            woken: AtomicBool::new(false),\n            thread", "            woken: AtomicBool::new(false),\n            lock: crate::sync::Mutex::new(()),\n            thread"),
      ("        while !self.parked.woken.swap(false, Ordering::Relaxed) {\n", "        loop {\n            let lock = self.parked.lock.lock();\n            if self.parked.woken.swap(false, Ordering::Relaxed) {\n                break;\n            }\n"),
      ("            match deadline.left() {", "            drop(lock);\n            match deadline.left() {"),
      ("        self.woken.swap(true, Ordering::Relaxed);\n", "        let _lock = self.lock.lock();\n        self.woken.swap(true, Ordering::Relaxed);\n")],
     "stopped", "a_reader_that_blocks"),
    ("stopped: the slot's lock waited for", "waiter.rs",
     [("    slot: TryMutex<Option<Waker>>,", "    slot: crate::sync::Mutex<Option<Waker>>,"),
      ("slot: TryMutex::new(None)", "slot: crate::sync::Mutex::new(None)"),
      ("Parker, TryMutex, fence", "Parker, fence"),
      ("let Some(mut slot) = self.slot.try_lock() else {", "let Some(mut slot) = Some(self.slot.lock()) else {"),
      ("        self.slot.try_lock()?.take()", "        self.slot.lock().take()"),
      ("        let mut slot = self.slot.try_lock()?;", "        let mut slot = self.slot.lock();")],
     "stopped", "a_reader_that_blocks"),
    ("stopped: a publisher lists its subscriptions", "distribute.rs",
     [("            panics.run_through(|| leavings.clear());", "            drop(crate::sync::ColdMutex::new(()).lock());\n            panics.run_through(|| leavings.clear());")],
     "stopped", "a_reader_that_blocks"),
    ("set: its waker is left asleep", "distribute.rs",
     [("                    wake(set.waiter(), panics);\n", "                    let _ = set.waiter();\n")],
     "wake", "a_set_loses_no_wakeup"),
    ("set: F3 removed", "distribute.rs",
     [("        fence(Ordering::SeqCst); // step 6", "        // step 6")],
     "wake", "a_set_loses_no_wakeup"),
    ("set: P removed", "waiter.rs",
     [("        // P, partner of F3 in a round: see the argument above.\n        fence(Ordering::SeqCst);\n", "")],
     "wake", "two_engines_wake_one_set"),
    ("set: a round takes another engine's note for its own", "distribute.rs",
     [("set.note(this)", "set.note(1 + 0 * this)")],
     "wake", "two_engines_wake_one_set"),
    ("set: never forgotten once it is noted", "distribute.rs",
     [("            set.forget();\n", "            let _ = set;\n")],
     "wake", "a_set_is_woken_by_every_round"),
    ("set: who waits alone says so after P", "subscription.rs",
     [("            if let Some(set) = &self.wait_set {\n                set.wait_alone();\n            }\n", ""),
      ("            self.mailbox().waiter().arm(cx.waker());\n", "            self.mailbox().waiter().arm(cx.waker());\n            if let Some(set) = &self.wait_set {\n                set.wait_alone();\n            }\n")],
     "wake", "who_waits_at_a_subscription"),
    ("set: who waits alone is left asleep", "distribute.rs",
     [("        if some_waited_alone {\n", "        if some_waited_alone && false {\n")],
     "wake", "who_waits_at_a_subscription"),
    # Waiting for distribution.
    ("await: V stored relaxed", "distribute.rs",
     [("self.distributed.store(head.position, Ordering::Release)", "self.distributed.store(head.position, Ordering::Relaxed)")],
     "distributed", "what_was_waited_for_is_in_every_ring"),
    ("await: V loaded relaxed", "distribute.rs",
     [("self.distributed.load(Ordering::Acquire)", "self.distributed.load(Ordering::Relaxed)")],
     "distributed", "what_was_waited_for_is_in_every_ring"),
    ("await: distributed is stored before the rings are served", "distribute.rs",
     [("        let served = self.serve(table, &head, &span);\n", "        self.distributed.store(head.position, Ordering::Release);\n        let served = self.serve(table, &head, &span);\n")],
     "distributed", "what_was_waited_for"),
    ("await: the holder of the role wakes no thread", "distribute.rs",
     [("            self.awaiting.take(Waker::wake);\n        }\n    }\n}\n", "            let _ = &self.awaiting;\n        }\n    }\n}\n")],
     "distributed", "two_that_wait"),
    ("await: the role is not marked", "distribute.rs",
     [("self.play::<{ TAKEN | AWAITED }>", "self.play::<TAKEN>")],
     "distributed", "two_that_wait"),
    ("await: the role is marked before the waker is there", "distribute.rs",
     [("            self.awaiting.push(blocking.waker().clone());\n            self.play::<{ TAKEN | AWAITED }>(head, None);\n", "            self.play::<{ TAKEN | AWAITED }>(head, None);\n            self.awaiting.push(blocking.waker().clone());\n")],
     "distributed", "two_that_wait"),
    # Reserving the head.
    ("reservation: its end wakes no publisher", "reservation.rs",
     [("        self.0.waiting.take(Waker::wake);\n", "        let _ = Waker::wake;\n")],
     "reservation", "a_batch_that_lost_once"),
    ("reservation: looked at before the waker is there", "reservation.rs",
     [("        self.waiting.push(blocking.waker().clone());\n        // Relaxed: E, ordered by the push.\n        if !self.over.load(Ordering::Relaxed) {\n", "        let over = self.over.load(Ordering::Relaxed);\n        self.waiting.push(blocking.waker().clone());\n        if !over {\n")],
     "reservation", "a_batch_that_lost_once"),
    ("reservation: over after the waiting are woken", "reservation.rs",
     [("        self.0.over.store(true, Ordering::Relaxed);\n", ""), ("        self.0.waiting.take(Waker::wake);\n", "        self.0.waiting.take(Waker::wake);\n        self.0.over.store(true, Ordering::Relaxed);\n")],
     "reservation", "a_batch_that_lost_once"),
    ("reservation: others do not wait", "reservation.rs",
     [("        theirs.wait();\n", "")],
     "reservation", "a_batch_that_lost_once"),
    ("reservation: one that is refused does not end", "engine.rs",
     [("            drop(reserved);\n", "            std::mem::forget(reserved);\n")],
     "reservation", "a_batch_that_is_refused"),
    # Commit and leave.
    ("commit: stored without comparing", "engine.rs",
     [("if self.head.compare_exchange(&head, next.clone()) {", "if { self.head.swap(next.clone()); true } {")],
     "delivery", "a_version_that_needs_a_snapshot_reaches_everybody"),
    ("commit: a closed head accepts more", "engine.rs",
     [("            if head.is_closed() {\n                return Err(Refusal::Closed);\n            }\n", "")],
     "close", "what_a_closing_round_pushes_is_delivered"),
    ("commit: the chain is never cut", "engine.rs",
     [("<= bound\n", "<= bound.max(u64::MAX)\n")],
     "engine:bounded", "a_chain_that_nobody_distributes_is_cut"),
    ("commit: a cut chain stays in the version before", "engine.rs",
     [("                    cut: !linked,\n", "                    cut: !linked && false,\n")],
     "leave", "what_a_cut_chain_held_goes"),
    ("commit: a cut chain stays in the versions further back", "distribute.rs",
     [("            step = version.take_step();\n", "            step = Step::default();\n")],
     "engine:bounded", "a_held_version_keeps_its_own_state_only"),
    ("walk: a version whose step is gone is taken for the last", "distribute.rs",
     [("                // Cut by a commit that found the chain too long, or is just cutting it.\n                span.needs_snapshot = true;\n", "")],
     "role", "a_chain_that_was_cut"),
    ("commit: an unobservable version starts a new chain", "engine.rs",
     [("let linked = self.may_chain(&head);", "let linked = draft.spent() > 0 && self.may_chain(&head);")],
     "delivery", "an_unobservable_change"),
    ("leave: one that is gone is never dropped", "distribute.rs",
     [("            if flags.is_gone() {", "            if flags.is_gone() && false {")],
     "leave", "nobody_lingers_after_leaving"),
    ("leave: nobody sweeps", "distribute.rs",
     [("        if self.wants_sweep() {\n            self.distribute(head, None);\n        }\n", "        let _ = head;\n")],
     "leave", "one_that_leaves_during_a_round_does_not_linger"),
    ("leave: the ring is emptied before leaving is announced", "subscription.rs",
     [("        self.core.forget(id, capacity);\n", ""),
      ("        panics.run(|| self.core.sweep());", "        self.core.forget(id, capacity);\n        panics.run(|| self.core.sweep());")],
     "engine:leaving", "leaving_drops_what_was_in_the_ring"),
    ("leave: set_lagging overwrites gone", "mailbox.rs",
     [(".fetch_or(Flags::LAGGING, Ordering::Release);", ".store(Flags::LAGGING, Ordering::Release);")],
     "leave", "one_that_leaves_while_it_overflows"),
    ("leave: the holder of the role does not look at who left", "distribute.rs",
     [("            if !newer && !self.wants_sweep() {", "            if !newer {")],
     "leave", "one_that_leaves_during_a_round"),
    ("leave: heads are counted, and not memory", "distribute.rs",
     [("    (words(at_least), words(at_most))", "    let _ = words(at_least).max(words(at_most));\n    (1, 1)")],
     "engine:memory", "what_subscriptions_leave_behind"),
    ("leave: a ring counts as it was at first", "distribute.rs",
     [("    (words(at_least), words(at_most))", "    let _ = words(at_most);\n    (words(at_least), words(at_least))")],
     "engine:memory", "what_subscriptions_leave_behind"),
    ("leave: the largest ring there ever was bounds the chain", "registry.rs",
     [("            list.by_size[size(ring)] -= 1;\n", "            let _ = ring;\n")],
     "engine:bounded", "the_bound_of_a_chain_follows"),
    ("leave: no news of it", "distribute.rs",
     [("        // Sync point N: pairs with the Acquire load in `look`.\n        self.news.fetch_add(1, Ordering::Release);\n", "")],
     "leave", "nobody_lingers_after_leaving"),
    ("leave: G counted relaxed", "distribute.rs",
     [("        self.gone_words.fetch_add(at_most, Ordering::Release);", "        self.gone_words.fetch_add(at_most, Ordering::Relaxed);")],
     "leave", "nobody_lingers_after_leaving"),
    # What onlookers see.
    ("onlooker: O removed", "subscription.rs",
     [("        // O, partner of F2 in `Mailbox::clear_lagging`.\n        fence(Ordering::SeqCst);\n", "        let _ = fence;\n")],
     "onlooker", "dropped_never_falls"),
    ("onlooker: filled is not stored", "mailbox.rs",
     [("        self.filled.store(filled, Ordering::Relaxed);\n", "        let _ = filled;\n")],
     "engine:stats", "what_a_stuck_reader_will_miss"),
    ("onlooker: what was told before is left out", "mailbox.rs",
     [("word.fetch_max(now, Ordering::Relaxed).max(now)", "{ let _ = word; now }")],
     "onlooker", "dropped_never_falls"),
    ("onlooker: half of a snapshot's account is read", "mailbox.rs",
     [("            if self.snapshots.load(Ordering::Relaxed) == snapshots {", "            if true {")],
     "onlooker", "two_snapshots_accounts_are_not_mixed"),
    ("onlooker: S's fence of the reader removed", "mailbox.rs",
     [("            // Sync point S: pairs with the Release fence in `snapshot`.\n            fence(Ordering::Acquire);\n", "")],
     "onlooker", "two_snapshots_accounts_are_not_mixed"),
    ("onlooker: S stored relaxed", "mailbox.rs",
     [("        self.snapshots.store(before + 1, Ordering::Release);", "        self.snapshots.store(before + 1, Ordering::Relaxed);")],
     "onlooker", "the_account_of_a_snapshot_is_seen_whole"),
    ("onlooker: S loaded relaxed", "mailbox.rs",
     [("            let snapshots = self.snapshots.load(Ordering::Acquire);", "            let snapshots = self.snapshots.load(Ordering::Relaxed);")],
     "onlooker", "the_account_of_a_snapshot_is_seen_whole"),
    ("onlooker: waits for the account of a snapshot that has begun", "mailbox.rs",
     [("    fn snapshot(&self, sequence: u64, missed: u64, forced: u64) {\n", "    fn snapshot(&self, sequence: u64, missed: u64, forced: u64) {\n        self.forced_before.fetch_add(1 << 40, Ordering::Relaxed);\n"),
      ("        self.snapshots.store(before + 1, Ordering::Release);", "        self.snapshots.store(before + 1, Ordering::Release);\n        self.forced_before.fetch_sub(1 << 40, Ordering::Release);"),
      ("            if self.snapshots.load(Ordering::Relaxed) == snapshots {", "            if self.forced_before.load(Ordering::Relaxed) >> 40 != 0 {\n                crate::sync::pause();\n            } else if self.snapshots.load(Ordering::Relaxed) == snapshots {")],
     "onlooker", "dropped_never_falls"),
]


def copy_workspace(to: pathlib.Path) -> None:
    """A workspace of the two crates that the models need."""
    for name in ("engine", "loom-tests", ".cargo"):
        shutil.copytree(ROOT / name, to / name)
    for name in ("Cargo.lock", "rust-toolchain.toml"):
        shutil.copy(ROOT / name, to / name)
    manifest = (ROOT / "Cargo.toml").read_text()
    members = 'members = ["proto", "engine", "grpc", "agent", "benches", "loom-tests"]'
    assert members in manifest, "the workspace's members have changed: mend teeth.py"
    (to / "Cargo.toml").write_text(manifest.replace(members, 'members = ["engine", "loom-tests"]'))


def run(work: pathlib.Path, model_file: str, model: str) -> tuple[bool, str]:
    """Whether a test failed, and which. One that takes the process down with it (a panic in a drop) is looked for by
    running each alone."""
    env = {k: v for k, v in os.environ.items() if k not in ("RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS")}
    env["CARGO_TARGET_DIR"] = str(ROOT / "target" / "teeth")
    if model_file.startswith("engine:"):
        command = ["cargo", "test", "-p", "configstream-engine", "--test", model_file.removeprefix("engine:"), "--"]
    else:
        command = ["cargo", "loom", "--test", model_file, "--"]

    def cargo(*words: str) -> subprocess.CompletedProcess:
        return subprocess.run(command + list(words), cwd=work, env=env, capture_output=True, text=True, timeout=600)

    selection = [model] if model else []
    try:
        done = cargo(*selection, "--test-threads=2")
        output = done.stdout + done.stderr
        if done.returncode == 0:
            return False, "nothing failed"
        if "could not compile" in output:
            return False, "does not compile:\n" + output[-3000:]
        failed = re.findall(r"^test (\S+) .*FAILED$", output, re.MULTILINE)
        if not failed:
            tests = re.findall(r"^(\S+): test$", cargo(*selection, "--list").stdout, re.MULTILINE)
            failed = [test for test in tests if cargo("--exact", test).returncode != 0]
        return bool(failed), ", ".join(sorted(set(failed))) or output[-3000:]
    except subprocess.TimeoutExpired:
        return False, "no end within 600 s"


def seed(sound: str, edits: list[tuple[str, str]]) -> str:
    """The source with the fault in it; an error if the text that it replaces is not there exactly once."""
    faulty = sound
    for text, replacement in edits:
        if faulty.count(text) != 1:
            raise ValueError(f"the text occurs {faulty.count(text)} times: {text!r}")
        faulty = faulty.replace(text, replacement)
    return faulty


def stale() -> int:
    """Whether the list has gone stale."""
    found = 0
    for name, file, edits, _, _ in FAULTS:
        try:
            seed((ROOT / SRC / file).read_text(), edits)
        except ValueError as error:
            found += 1
            print(f"STALE   {name}: {error}")
    print(f"{len(FAULTS)} faults, {found} of them stale")
    return 1 if found else 0


def main() -> int:
    words = sys.argv[1:]
    if words == ["--stale"]:
        return stale()
    faults = [fault for fault in FAULTS if not words or any(word in fault[0] for word in words)]
    missed = []
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory)
        copy_workspace(work)
        for name, file, edits, model_file, model in faults:
            path = work / SRC / file
            sound = path.read_text()
            try:
                path.write_text(seed(sound, edits))
                caught, by = run(work, model_file, model)
            except ValueError as error:
                caught, by = False, f"stale: {error}"
            path.write_text(sound)
            print(f"{'caught ' if caught else 'MISSED '} {name}: {by}", flush=True)
            if not caught:
                missed.append(name)
    print(f"{len(faults) - len(missed)} of {len(faults)} faults were caught")
    return 1 if missed or not faults else 0


if __name__ == "__main__":
    sys.exit(main())
