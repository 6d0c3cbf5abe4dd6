"""The guards that row 12 removes: of each the hazard, where it stands, what is left without it, and who notices.

The numbers are those of the hazards: what the drivers lmdb 3.0 and rocksdict 0.3 really do. A guard that moves or
changes has to change here too: what is replaced must match exactly once.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Guard:
    """A guard, and how it is removed.

    Attributes:
        hazard: its number.
        what: what the guard does, in a few words.
        file: where it stands, within the package.
        old: the code that is it.
        new: the code of somebody who does not know the hazard.
        tests: those that must notice, by file below ``tests/`` and name.
    """

    hazard: int
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def engines(self) -> frozenset[str]:
        """The engines on which the tests run."""
        return frozenset(engine for test in self.tests for engine in _engines_of(test))

    def tests_on(self, engine: str) -> list[str]:
        """The tests that run on one engine, as pytest takes them."""
        return [f"tests/{test}" for test in self.tests if engine in _engines_of(test)]


def _engines_of(test: str) -> tuple[str, ...]:
    for engine in ("lmdb", "rocksdb"):
        if engine in test:
            return (engine,)
    raise ValueError(f"the test {test} does not say its engine")


_L = "hazards/lmdb/test_lmdb_"
_R = "hazards/rocksdb/test_rocksdb_"

GUARDS = (
    # ---- 1: LMDB is silent about keys that it cannot have, RocksDB takes them
    Guard(1, "an over-long key is refused", "storage/batch.py", "    if len(key) > limit:", "    if False:",
          (_L + "keys.py::test_key_of_a_bad_length_is_refused_by_every_call",
           _R + "commits.py::test_keys_outside_the_limit_are_refused_before_the_engine")),
    Guard(1, "an empty key is refused", "storage/batch.py", "    if not key:", "    if False:",
          (_L + "keys.py::test_key_of_a_bad_length_is_refused_by_every_call",
           _R + "commits.py::test_keys_outside_the_limit_are_refused_before_the_engine")),
    Guard(1, "a key that get does not find is looked at", "storage/lmdb/engine.py",
          "        if raw is None:\n            check_key(key, cf)\n", "        if raw is None:\n",
          (_L + "keys.py::test_key_of_a_bad_length_is_refused_by_every_call",)),
    Guard(1, "so is one that a snapshot does not find", "storage/lmdb/reading.py",
          "        if raw is None:\n            check_key(key, cf)\n", "        if raw is None:\n",
          (_L + "keys.py::test_key_of_a_bad_length_is_refused_by_snapshots",)),
    # ---- 2: rocksdict raises the KeyError of an absent key for one that is no bytes
    Guard(2, "an error of a read is about the key first", "storage/rocksdb/engine.py",
          "            self.family(cf, operation)\n            check_key(key, cf)\n",
          "            self.family(cf, operation)\n",
          (_R + "commits.py::test_keys_that_are_not_bytes_are_type_errors",)),
    Guard(2, "types of a batch are tested before the engine sees it", "storage/batch.py",
          "            if not _CHANGE_TYPES.issuperset(map(type, changes.values())):", "            if False:",
          (_L + "keys.py::test_value_that_is_not_bytes_is_a_type_error",
           _R + "commits.py::test_a_bad_operation_anywhere_changes_nothing")),
    # ---- 3: putmulti keeps the items before a bad one
    Guard(3, "a batch is validated as a whole", "storage/shared.py",
          "        batch.validate(self.capabilities.key_limit)\n", "",
          (_L + "keys.py::test_one_bad_item_leaves_nothing_of_its_batch",
           _R + "commits.py::test_a_bad_operation_anywhere_changes_nothing")),
    # ---- 4: a full map poisons the transaction
    Guard(4, "a full map grows", "storage/lmdb/commit.py", "            if self._engine.grow():", "            if False:",
          (_L + "map.py::test_map_grows_up_to_max_map_size",)),
    Guard(4, "growth waits for readers", "storage/lmdb/engine.py", "            while self.live:\n", "            while False:\n",
          (_L + "map.py::test_open_snapshot_holds_growth_back_for_the_lock_timeout",)),
    Guard(4, "a map that cannot grow is MapFull", "storage/lmdb/commit.py",
          '                raise self._engine.map_full("batch_write", error) from error', "                raise",
          (_L + "map.py::test_full_map_ends_in_map_full_and_nothing_else",)),
    # ---- 5: another process grew the map
    Guard(5, "a reader adopts a grown map", "storage/lmdb/reading.py",
          "                except lmdb.MapResizedError:\n", "                except ZeroDivisionError:\n",
          (_L + "map.py::test_map_grown_by_another_process_is_adopted",)),
    Guard(5, "a writer adopts a grown map", "storage/lmdb/engine.py",
          "        except lmdb.MapResizedError:\n            self.adopt_map_size()\n        except",
          "        except ZeroDivisionError:\n            self.adopt_map_size()\n        except",
          (_L + "map.py::test_map_grown_by_another_process_is_adopted",)),
    Guard(5, "a map that grows as the store is opened", "storage/lmdb/engine.py",
          "if not left or not isinstance(error, lmdb.MapResizedError):", "if True:",
          (_L + "map.py::test_a_map_that_grows_while_it_is_opened_is_opened",)),
    # ---- 6: a full disk is an error of input and output, or a bare Exception
    Guard(6, "LMDB's full disk is told from other errors", "storage/lmdb/errors.py",
          "    if isinstance(error, lmdb.DiskError):\n        return True\n", "",
          (_L + "disk.py::test_no_driver_error_reaches_the_caller",)),
    Guard(6, "RocksDB's full disk is told from other errors", "storage/rocksdb/errors.py",
          "    return any(words in text for words in", "    return any(not words for words in",
          (_R + "disk_full.py::test_a_file_size_limit_is_disk_full",)),
    Guard(6, "readers do not wait for a write that the disk had no room for", "storage/rocksdb/commit.py",
          "            # Nothing reached the memtables, so readers have nothing to wait for.\n"
          "            self._engine.states.retreat()\n", "            pass\n",
          (_R + "commits.py::test_a_full_disk_leaves_snapshots_readable",)),
    # ---- 7: a commit that raised may have been applied
    Guard(7, "after a failed commit the store is asked what it holds", "storage/lmdb/commit.py",
          "            applied = self._last_transaction() >= number\n", "            applied = False\n",
          (_L + "disk.py::test_commit_that_fails_is_resolvable",)),
    Guard(7, "the outcome of what failed is open until reopening", "storage/rocksdb/commit.py",
          "        if token[:8] in self._own_writers:\n", "        if False:\n",
          (_R + "commits.py::test_a_failed_sync_leaves_the_outcome_open_until_reopening",)),
    Guard(7, "a later commit leaves the token alone", "storage/rocksdb/commit.py",
          "        if token is not None and token[:8] == self._writer_id:\n", "        if False:\n",
          (_R + "commits.py::test_a_later_commit_leaves_the_outcome_of_a_failed_one",)),
    Guard(7, "a commit whose sync failed is told of by its own token", "storage/rocksdb/commit.py",
          "                self._sync_log(request.token)\n", "                self._sync_log(self._token(request.sequence))\n",
          (_R + "commits.py::test_threads_whose_shared_sync_fails_learn_of_their_own_commits",)),
    Guard(7, "Ctrl-C is held back during a commit", "storage/interrupts.py",
          "        if threading.get_ident() == threading.main_thread().ident:", "        if False:",
          (_L + "interrupts.py::test_interrupts_at_random_moments_leave_a_true_account",
           _R + "commits.py::test_a_signal_waits_for_the_commit_to_end")),
    # ---- 8: after a failed meta write, or a failed sync, every call fails
    Guard(8, "LMDB's panic is noticed", "storage/lmdb/commit.py", "        if panicked:\n", "        if False:\n",
          (_L + "disk.py::test_engine_that_gave_up_asks_for_reopening",)),
    Guard(8, "a failed sync ends writing", "storage/rocksdb/commit.py",
          "        if not self._full(error):\n            self.failed", "        if self._full(error):\n            self.failed",
          (_R + "commits.py::test_a_failed_sync_leaves_the_outcome_open_until_reopening",)),
    # ---- 9: rocksdict's iteration ends early without an error
    Guard(9, "the end of a scan is verified", "storage/rocksdb/reading.py",
          "            if self._pairs is not None:\n                self._verify_end()\n", "",
          (_R + "corruption.py::test_a_scan_over_a_damaged_block_ends_in_corruption",)),
    Guard(9, "a snapshot's scan asks for the status", "storage/rocksdb/states.py",
          "                if not valid():\n", "                if False:\n",
          (_R + "corruption.py::test_a_scan_over_a_damaged_block_ends_in_corruption",)),
    Guard(9, "no step on an invalid iterator, a segmentation fault", "storage/rocksdb/states.py",
          "while len(pairs) < size and valid():", "while len(pairs) < size:",
          (_R + "scans.py::test_scans_of_a_snapshot_show_its_moment",)),
    # ---- 10: LMDB has no checksums
    Guard(10, "get tests the checksum", "storage/lmdb/engine.py",
          "            return checksums.value(key, raw, family.seed)\n", "            return raw[:-4]\n",
          (_L + "damage.py::test_flipped_checksum_is_noticed",)),
    Guard(10, "a snapshot's get tests it", "storage/lmdb/reading.py",
          "            return checksums.value(key, raw, family.seed)\n", "            return raw[:-4]\n",
          (_L + "damage.py::test_every_read_notices_a_flipped_checksum",)),
    Guard(10, "a scan tests it", "storage/lmdb/reading.py",
          "        return checksums.pairs(chunk, tagged, family.seed)\n",
          "        return [(key[tagged:], value[:-4]) for key, value in chunk]\n",
          (_L + "damage.py::test_every_read_notices_a_flipped_checksum",)),
    Guard(10, "many at once are tested", "storage/lmdb/reading.py",
          "        return checksums.values(keys, raws, family.seed)\n",
          "        return [raw and raw[:-4] for raw in raws]\n",
          (_L + "damage.py::test_expectation_on_a_damaged_value_is_corruption",)),
    Guard(10, "a checksum is of its family too", "storage/lmdb/engine.py", "zlib.crc32(name.encode()))", "0)",
          (_L + "damage.py::test_row_of_another_family_is_noticed",)),
    Guard(10, "records are counted", "store/verification.py", "        if counted != rows:", "        if False:",
          ("store/test_verification.py::test_a_wrong_count_is_found_and_repaired[lmdb]",
           "store/test_verification.py::test_a_wrong_count_is_found_and_repaired[rocksdb]")),
    # ---- 11: a file that was cut short is a SIGBUS
    Guard(11, "the file is measured before it is mapped", "storage/lmdb/engine.py", "        check_file(path)\n", "",
          (_L + "damage.py::test_cut_file_is_refused",)),
    Guard(11, "a crash of the verifying process is a finding", "store/verifier.py",
          "        self.death = signal.Signals(-code).name\n", "        self.done = True\n",
          ("store/test_verification.py::test_a_crash_of_the_engine_is_a_finding[lmdb]",
           "store/test_verification.py::test_a_crash_of_the_engine_is_a_finding[rocksdb]")),
    # ---- 12: a damaged log opens with rows missing
    Guard(12, "the recovery mode is set", "storage/rocksdb/options.py",
          "    native.set_wal_recovery_mode(RECOVERY_MODES[options.wal_recovery]())\n", "",
          (_R + "corruption.py::test_a_log_damaged_in_the_middle_is_refused_and_left_alone",)),
    # ---- 13: a seek at an absent prefix finds nothing
    Guard(13, "ranges seek in total order", "storage/rocksdb/reading.py",
          "        options.set_total_order_seek(True)\n", "        pass\n",
          (_R + "scans.py::test_a_range_from_an_absent_prefix_goes_on_to_what_follows",)),
    Guard(13, "snapshots seek in total order", "storage/rocksdb/engine.py",
          "        self.total_order.set_total_order_seek(True)\n", "",
          (_R + "scans.py::test_a_snapshots_range_from_an_absent_prefix_goes_on",)),
    Guard(13, "backwards there is no prefix mode", "storage/rocksdb/reading.py",
          "    if exact and not reverse:", "    if exact:",
          (_R + "scans.py::test_exactly_one_prefix_backwards_gives_its_rows",)),
    # ---- 14: LMDB's iteration begins anew where a seek has found nothing
    Guard(14, "a seek past the end is an empty scan", "storage/lmdb/reading.py",
          "    pairs = cursor.iternext() if found else iter(())\n",
          "    pairs = cursor.iternext()\n",
          (_L + "keys.py::test_scan_that_starts_past_the_last_key_is_empty",)),
    # ---- 15: a fork with an open store
    Guard(15, "a fork is heard of", "storage/shared.py",
          "    os.register_at_fork(after_in_child=_after_fork_in_child)", "    pass",
          (_L + "fork.py::test_every_use_in_the_child_is_refused_with_both_pids",
           _R + "fork.py::test_every_call_in_the_child_is_refused_with_both_pids")),
    Guard(15, "calls look at the process", "storage/engine.py",
          "        if os.getpid() != self.pid:\n            error = forked(self)", "        if False:\n            error = forked(self)",
          (_L + "fork.py::test_fork_behind_pythons_back_is_noticed",)),
    Guard(15, "the child leaks the driver's objects", "storage/shared.py",
          "    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))", "    pass",
          # py-lmdb 3.0 leaves alone by itself what another process has opened.
          (_R + "fork.py::test_the_child_ends_as_it_wants_and_leaves_the_parent_alone",)),
    Guard(15, "a child without RocksDB's threads does not write", "storage/rocksdb/engine.py",
          "        if parent is not None:\n            raise exc.ForkedProcess(", "        if False:\n            raise exc.ForkedProcess(",
          (_R + "fork.py::test_a_child_without_rocksdbs_threads_does_not_hang",)),
    Guard(15, "a child ends without RocksDB's destructors", "storage/rocksdb/forked.py",
          "        _on_exit(_underscore_exit, None)\n", "        pass\n",
          (_R + "fork.py::test_a_child_of_a_process_that_closed_its_store_ends_in_peace",)),
    Guard(15, "the child opens an environment of its own", "storage/lmdb/engine.py",
          "    os.register_at_fork(after_in_child=separate_identities)", "    pass",
          (_L + "fork.py::test_child_can_open_the_store_again",)),
    # ---- 16: a write transaction that outlives its call blocks the next writer
    Guard(16, "a transaction that failed is ended at once", "storage/lmdb/commit.py",
          "    link: BaseException | None = error\n", "    return\n    link: BaseException | None = error\n",
          (_L + "commits.py::test_an_error_that_is_kept_holds_no_transaction",)),
    # ---- 17: LMDB waits for ever for a second writer
    Guard(17, "the wait for another process is bounded", "storage/lmdb/engine.py",
          "            if not lock.acquire(timeout, waiting=interrupts.deliver):", "            if not lock.acquire(1e9):",
          (_L + "commits.py::test_wait_for_another_process_is_bounded",)),
    Guard(17, "the wait for another thread is bounded", "storage/lmdb/engine.py",
          "                if time.monotonic() >= deadline:\n                    raise self.lock_timeout",
          "                if False:\n                    raise self.lock_timeout",
          (_L + "commits.py::test_wait_for_another_thread_is_bounded",)),
    Guard(17, "a wait hears Ctrl-C", "storage/lmdb/engine.py",
          "if not lock.acquire(timeout, waiting=interrupts.deliver):", "if not lock.acquire(timeout):",
          (_L + "interrupts.py::test_wait_for_a_lock_hears_ctrl_c",)),
    Guard(17, "the wait for another thread is bounded", "storage/rocksdb/commit.py",
          "            if time.monotonic() >= deadline:\n", "            if False:\n",
          (_R + "commits.py::test_the_wait_for_another_thread_is_bounded",)),
    # ---- 18: a store opened twice
    Guard(18, "one engine per path in a process", "storage/shared.py",
          "        engine = _engines.get(key)\n", "        engine = None\n",
          (_L + "formats.py::test_one_engine_per_path_in_a_process",
           _R + "opening.py::test_one_process_shares_one_engine_by_real_path")),
    Guard(18, "paths are told apart by where they lead", "storage/lmdb/engine.py",
          "        real = os.path.realpath(path)\n", "        real = path\n",
          (_L + "formats.py::test_one_engine_per_path_in_a_process",)),
    Guard(18, "the store's lock comes before rocksdict touches it", "storage/rocksdb/engine.py",
          "        if not lock.acquire(self.options.lock_timeout or 0.0):", "        if False:",
          (_R + "opening.py::test_a_refused_opener_changes_nothing",)),
    # ---- 19: a store reopened as what it is not
    Guard(19, "the engine's name is compared", "storage/storedir.py", "    if marker.engine != wanted.engine:", "    if False:",
          (_L + "formats.py::test_store_of_another_engine_is_refused",
           _R + "opening.py::test_a_store_of_another_engine_is_refused")),
    Guard(19, "the format's version is compared", "storage/storedir.py",
          "    if not 1 <= marker.format <= FORMAT:", "    if False:",
          (_L + "formats.py::test_store_of_a_newer_format_is_refused",
           _R + "opening.py::test_a_newer_format_is_refused")),
    Guard(19, "the checksum setting is fixed", "storage/storedir.py",
          "    if asked is not None and asked != has:", "    if False:",
          (_L + "formats.py::test_checksum_setting_is_fixed",)),
    Guard(19, "a family's compaction is fixed", "storage/rocksdb/engine.py",
          "        if style is not None and style != wanted.compaction:", "        if False:",
          (_R + "options.py::test_another_compaction_style_is_refused_before_data_are_lost",)),
    # ---- 20: a crash while a store is being created
    Guard(20, "a store is made beside its path and renamed", "storage/storedir.py",
          "    aside = aside_of(path)\n    try:\n        os.mkdir(aside)\n",
          "    aside = aside_of(path)\n    os.makedirs(path)\n    build(path)\n    return _write_marker(path, marker)\n    try:\n        os.mkdir(aside)\n",
          (_L + "creation.py::test_kill_during_creation_leaves_nothing_or_a_store",
           _R + "opening.py::test_a_process_killed_as_it_builds_a_store_leaves_nothing_at_its_path")),
    Guard(20, "what is no store is left alone", "storage/storedir.py",
          "    if not entries or _UNFINISHED in entries:", "    if True:",
          (_L + "creation.py::test_directory_of_other_things_is_no_store",
           _R + "opening.py::test_a_foreign_directory_is_refused_and_untouched")),
    # ---- 21: RocksDB's handles of families
    Guard(21, "a batch is made anew if the families changed", "storage/rocksdb/commit.py",
          "if native is None or engine.known is not families:", "if native is None:",
          (_R + "commits.py::test_a_batch_that_was_built_before_its_family_was_made_anew_reaches_it",)),
    Guard(21, "the engine's own families are out of reach", "storage/rocksdb/engine.py",
          '                if name != "default":\n                    self._add_family(database, name, prefixes[name])\n',
          "                self._add_family(database, name, prefixes[name])\n",
          (_R + "commits.py::test_the_engines_own_families_are_out_of_reach",)),
    Guard(21, "a native batch is used once", "storage/rocksdb/commit.py",
          "                    native = None  # the driver has used it up\n", "",
          (_R + "commits.py::test_a_stalled_batch_is_written_as_a_new_one",)),
    # ---- 22: what is alive keeps RocksDB open
    Guard(22, "children end with their handle", "storage/shared.py",
          "        for child in self.children:\n            child.kill(error)\n", "",
          (_L + "close.py::test_snapshot_of_a_closed_handle_is_closed_though_another_has_the_store",)),
    Guard(22, "close lets go of the driver's families", "storage/rocksdb/engine.py",
          "            for family in (*families.values(), *self._dropped):\n                family.release()\n", "",
          (_R + "opening.py::test_close_ends_snapshots_and_iterators_and_frees_the_store",
           _R + "commits.py::test_an_error_that_is_kept_does_not_keep_the_store_open")),
    Guard(22, "what an error's traceback keeps is let go of", "storage/rocksdb/states.py",
          "        for pinned in list(self._all):\n            pinned.release()\n", "",
          (_R + "commits.py::test_what_a_traceback_keeps_of_a_snapshot_does_not_keep_the_store_open",)),
    # ---- 23: RocksDB's snapshots are of one family each
    Guard(23, "families are pinned before a write changes them", "storage/rocksdb/states.py",
          "                self._keep(cf, [state for state in keeping if state.sequence >= changed])\n",
          "                pass\n",
          (_R + "snapshots.py::test_an_old_snapshot_keeps_a_family_that_is_changed_much_later",
           _R + "scans.py::test_a_snapshot_spans_all_families_at_one_moment")),
    Guard(23, "and for all states that somebody holds", "storage/rocksdb/states.py",
          "        return {self._current, self._candidate or self._current, *self._held}\n",
          "        return {self._current, self._candidate or self._current}\n",
          (_R + "snapshots.py::test_an_old_snapshot_keeps_a_family_that_is_changed_much_later",)),
    Guard(23, "no snapshot shows what is not on disk", "storage/rocksdb/engine.py",
          'synced=writable and options.durability == "sync"', "synced=False",
          (_R + "commits.py::test_no_snapshot_shows_a_commit_before_its_sync",)),
    Guard(23, "RocksDB's statistics do not meet a family that is dropped and still read", "storage/rocksdb/options.py",
          "    native.set_stats_dump_period_sec(0)\n", "",
          (_R + "snapshots.py::test_no_statistics_are_written_into_the_log",)),
    # ---- 24: LMDB's readers
    Guard(24, "slots of dead readers are cleared at open", "storage/lmdb/engine.py",
          '            self.env.reader_check()\n            with self._exclusive("open")', '            with self._exclusive("open")',
          (_L + "readers.py::test_slots_of_killed_processes_are_cleared_at_open",)),
    Guard(24, "and when there is none left", "storage/lmdb/engine.py",
          "            self.env.reader_check()\n            gc.collect()\n", "            gc.collect()\n",
          (_L + "readers.py::test_slots_of_killed_processes_are_cleared_when_needed",)),
    Guard(24, "old snapshots are ended", "storage/engine.py", "            if age > limit:", "            if False:",
          (_L + "readers.py::test_snapshot_over_its_age_is_ended",
           _R + "snapshots.py::test_a_snapshot_past_its_age_is_ended")),
    Guard(24, "a read leaves no transaction behind", "storage/lmdb/engine.py",
          "            raw = txn.get(family.tag + key, None, family.db)\n            txn.abort()\n",
          "            raw = txn.get(family.tag + key, None, family.db)\n            self.__dict__.setdefault('kept', []).append(txn)\n",
          (_L + "readers.py::test_file_does_not_grow_without_old_readers",)),
    Guard(24, "a session ends its snapshot before it writes", "store/transaction.py",
          "    def _end_snapshot(self) -> None:\n",
          "    def _end_snapshot(self) -> None:\n        if not self.closed:\n            return\n",
          (_L + "readers.py::test_a_session_has_let_go_of_its_snapshot_when_it_commits",)),
    # ---- 25: options that lose data
    Guard(25, "unsafe options are refused by name", "storage/options.py",
          "        if name not in known and name in _UNSAFE:", "        if False:",
          (_L + "formats.py::test_driver_option_that_can_lose_data_is_refused",
           _R + "opening.py::test_options_that_can_lose_data_are_refused")),
    Guard(25, "LMDB syncs", "storage/lmdb/engine.py", 'sync=options.durability != "none",', "sync=False,",
          (_L + "commits.py::test_every_commit_is_synced_by_default",)),
    Guard(25, "FIFO families need all files open", "storage/rocksdb/engine.py",
          'if style == "fifo" and self.options.max_open_files != -1:', "if False:",
          (_R + "options.py::test_fifo_with_a_bound_on_open_files_is_refused",)),
    # ---- 26: a synced write keeps Python's lock
    Guard(26, "a write is no sync", "storage/rocksdb/commit.py",
          "        self._options.sync = False\n", "        self._options.sync = True\n",
          (_R + "commits.py::test_threads_write_while_another_syncs",)),
    Guard(26, "a commit waits for its sync", "storage/rocksdb/commit.py",
          "                self._sync(_Sync(attempt.sequence, attempt.token), interrupts)\n", "",
          (_R + "commits.py::test_one_thread_makes_one_write_and_one_sync_a_commit",)),
    Guard(26, "LMDB's leader takes all that wait", "storage/lmdb/commit.py",
          "                group = self._group.take()\n                self._apply_group(group)\n",
          "                group = self._group.take(lambda request: request is own)\n                self._apply_group(group)\n",
          (_L + "commits.py::test_commits_of_threads_are_grouped",)),
    # ---- 27: views and cursors after the end of their transaction
    Guard(27, "values are copies", "storage/lmdb/engine.py", "        self._begin = self.env.begin\n",
          "        self._begin = lambda: self.env.begin(buffers=True)\n",
          (_L + "close.py::test_values_outlive_the_store",)),
    Guard(27, "a transaction in use is not ended", "storage/lmdb/reading.py",
          "        with self._using:\n            self._txn.abort()\n", "        if True:\n            self._txn.abort()\n",
          (_L + "close.py::test_closing_while_other_threads_work_is_safe",)),
)  # fmt: skip
"""All guards."""
