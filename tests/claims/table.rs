//! Claim → test: by file, a few words of the sentence as they stand there (white space collapsed), and what
//! shows that it is true.

/// What shows it.
#[derive(Clone, Copy)]
pub(crate) enum Shown {
    /// `program::test` below `tests/`, or `faults/program::test` of the fault lab.
    By(&'static [&'static str]),
    /// Nothing here: why not.
    Not(&'static str),
}

use Shown::{By, Not};

const OLDER_KERNEL: &str = "shown only by an older kernel";
const OTHER_KERNELS: &str = "shown by the rows of tests/kernels.md";

#[rustfmt::skip]
pub(crate) const CLAIMS: &[(&str, &[(&str, Shown)])] = &[
    (
        "README.md",
        &[
            ("the callback will be called exactly once, unless", By(&[
                "callback::each_callback_is_called_exactly_once",
                "shutdown::whatever_was_submitted_is_completed_however_it_ends",
            ])),
            ("If it returns `Err`, the callback will never be called", By(&[
                "errors::what_the_kernel_refuses_comes_from_submit_and_is_never_called_back",
                "errors::an_error_brings_the_very_same_file_buffer_and_closure_back",
            ])),
            ("has `EINVAL` as the result, or", By(&[
                "errors::misaligned_direct_requests_say_einval_in_the_result",
            ])),
            ("more than 2 GiB less 4 KiB always comes back short", By(&[
                "read_write::more_than_two_gibibytes_come_back_short",
            ])),
            ("Podman's answers ENOSYS", Not("a fact about other programs, with its source")),
            ("Since Linux 6.6 the sysctl", Not("a fact about io_uring")),
            ("Linux 6.18, x86-64, two virtual processors", Not("says where figures were measured")),
            ("x86-64 with Linux 6.18 |", Not("says where CI runs")),
            ("Linux 5.10 and 7.2, one processor |", Not(OTHER_KERNELS)),
            ("Linux 6.1 and 6.12, one processor |", Not(OTHER_KERNELS)),
            ("Linux 5.10, 6.1 and 7.2, two processors |", Not(OTHER_KERNELS)),
            ("aarch64, Linux 6.12, two processors |", Not(OTHER_KERNELS)),
            ("s390x, big endian, Linux 7.2, two processors |", Not(OTHER_KERNELS)),
            ("A child gets a clear error and can't disturb", By(&[
                "fork::a_childs_calls_are_refused_and_its_drops_leave_the_parent_alone",
                "faults/forks::a_fork_in_a_callback_disturbs_nobody",
                "faults/forks::a_fork_in_a_waker_disturbs_nobody",
                "faults/forks::a_fork_beside_threads_that_are_anywhere_disturbs_nobody",
            ])),
            ("The kernel gets requests in the order in which one thread submitted them to one context", By(&[
                "backlog::two_hundred_thousand_requests_from_one_thread_complete_in_order",
            ])),
            ("They may panic (logged and counted", By(&[
                "panic::callbacks_that_panic_are_counted_and_the_others_called",
                "callback::a_callback_may_wait_for_a_request",
                "shutdown::a_callback_may_drop_the_last_handle",
            ])),
            ("A read allocates nothing", By(&["allocation::nothing_is_allocated_in_the_steady_state"])),
        ],
    ),
    (
        "docs/guide.md",
        &[
            ("it returns EPERM.) A program can ask", Not("a fact about another program")),
            ("`Unsupported` from `DirectFile::open` | EINVAL", By(&[
                "direct::a_file_that_refuses_direct_io_is_an_error_that_says_so",
            ])),
            ("`preallocate` fails | EOPNOTSUPP", By(&["direct::space_that_cannot_be_reserved_is_an_error"])),
            ("`SetupError::Unsupported`; it names", By(&[
                "faults/refused::a_call_that_does_not_exist_is_unsupported_and_named",
            ])),
            ("`SetupError::Refused`; it names", By(&["faults/refused::a_call_that_a_filter_refuses_is_named"])),
            ("`SetupError::QuotaExhausted` | EAGAIN", By(&[
                "faults/quota::a_used_up_quota_halves_the_depth_and_at_last_is_an_error_with_numbers",
            ])),
            ("`SetupError::NoMemory` | ENOMEM", By(&[
                "setup::too_little_address_space_says_no_memory",
                "faults/refused::without_memory_for_a_ring_it_says_so",
            ])),
            ("`SetupError::Thread` | EAGAIN, ENOMEM, EINVAL", By(&[
                "faults/refused::a_thread_that_nproc_forbids_is_named",
                "faults/refused::a_thread_that_a_new_pid_namespace_forbids_is_named",
            ])),
            ("the result of a transfer | EINVAL | O_DIRECT", By(&[
                "errors::misaligned_direct_requests_say_einval_in_the_result",
            ])),
            ("end of file, full file system", By(&[
                "faults/ends::a_full_tmpfs_writes_what_fits_and_then_says_enospc",
                "faults/ends::beyond_the_end_of_a_file_there_is_nothing",
            ])),
            ("the process dies of SIGXFSZ | EFBIG", By(&[
                "faults/ends::past_the_limit_of_file_sizes_a_write_is_cut_and_then_efbig",
                "faults/ends::a_write_past_the_file_size_limit_kills_unless_sigxfsz_is_ignored",
            ])),
            ("the result of a request | EAGAIN", By(&[
                "flags::nowait_completes_with_eagain_where_it_would_block",
                "faults/results::eintr_and_eagain_as_results_are_not_retried_behind_the_users_back",
            ])),
            ("`AioError::Stalled`, late | ENOMEM", By(&[
                "faults/refused::eagain_for_ever_with_nothing_in_flight_is_stalled",
                "faults/refused::eagain_for_ever_ends_in_enomem_once_nothing_is_in_flight",
            ])),
        ],
    ),
    (
        "src/aio/builder.rs",
        &[
            ("no more requests are in flight than the depth allows", By(&[
                "private_contexts::a_private_context_takes_over_a_slot_of_the_shared_one",
            ])),
            ("do not slow each other down", By(&[
                "private_contexts::a_wait_beside_others_gets_a_context_of_its_own_once",
                "private_contexts::no_wait_gets_one_where_it_would_change_what_is_promised",
            ])),
            ("Where one can't be made, the shared context serves", By(&[
                "private_contexts::where_none_can_be_made_the_shared_context_serves",
            ])),
            ("A thread always uses the same shard", By(&[
                "shards::threads_take_turns_and_stay_where_they_are",
            ])),
        ],
    ),
    (
        "src/aio/mod.rs",
        &[
            ("aits for readiness are cancelled (`ECANCELED`)", By(&[
                "poll::shutting_down_cancels_armed_polls",
            ])),
            ("cancels waits for readiness (`ECANCELED`)", By(&["poll::shutting_down_cancels_armed_polls"])),
            ("The global one is never dropped", By(&["shutdown::the_shared_context_can_be_drained"])),
            ("Blocks for at most about `timeout`", By(&[
                "faults/held::shutdown_past_its_deadline_frees_nothing_and_no_later_drop_blocks",
                "faults/submitter::shutdown_keeps_its_deadline_while_the_queue_is_blocked",
            ])),
            ("delivers at most `max`", By(&["dispatch::poll_delivers_at_least_min_and_at_most_max"])),
            ("`poll(0, usize::MAX, None)` never sleeps", By(&[
                "documented::a_poll_for_nothing_does_not_wait_for_another_poller",
            ])),
            ("a second one waits for its turn", By(&[
                "documented::a_second_poller_waits_for_its_turn_until_its_time_is_over",
            ])),
        ],
    ),
    (
        "src/aio/poll_with_mask.rs",
        &[
            ("is to `poll(2)` ([`io_pgetevents(2)`]", Not(OLDER_KERNEL)),
            ("ENOSYS before Linux 4.18, EPERM or EACCES", By(&[
                "promises::without_the_call_a_poll_with_a_mask_says_so_and_one_without_works",
            ])),
        ],
    ),
    (
        "src/batch/mod.rs",
        &[
            ("callbacks are dropped uncalled", By(&[
                "batch::an_unsubmitted_batch_is_dropped_whole_and_its_handles_say_so",
            ])),
            ("1024 requests at most in each", By(&[
                "documented::a_batch_goes_by_1024_requests_at_most_in_a_call",
            ])),
            ("or ECANCELED where there is none", By(&[
                "batch::a_refused_handle_says_so_as_its_result",
                "batch::after_shutdown_all_is_refused",
            ])),
        ],
    ),
    (
        "src/buf/aligned.rs",
        &[
            ("never rounded", By(&[
                "buffers::aligned_memory_is_aligned_zeroed_and_exactly_as_long_as_asked",
            ])),
        ],
    ),
    (
        "src/buf/mod.rs",
        &[
            ("Never null", Not("a promise of whoever implements the trait, who says so in an unsafe impl")),
            ("The kernel transfers at most `0x7fff_f000` bytes", By(&[
                "read_write::more_than_two_gibibytes_come_back_short",
            ])),
        ],
    ),
    (
        "src/buf/pool/buf.rs",
        &[
            ("(`mem::forget`) never comes back", By(&[
                "buf_pool::a_forgotten_buffer_is_lost_and_nothing_else",
            ])),
        ],
    ),
    (
        "src/buf/pool/builder.rs",
        &[
            ("`MADV_POPULATE_WRITE` (Linux 5.14)", By(&[
                "buf_pool::prefaulting_makes_every_page_present",
                "buf_pool::prefaulting_works_on_kernels_without_a_call_for_it",
            ])),
            ("`EFAULT` or `EHWPOISON`", By(&["buf_pool::a_pool_that_cannot_be_is_an_error"])),
        ],
    ),
    (
        "src/buf/pool/mod.rs",
        &[
            ("no system call", By(&["documented::taking_a_buffer_and_giving_it_back_makes_no_system_call"])),
        ],
    ),
    (
        "src/buf/pool/take.rs",
        &[
            ("keeps its place until it polls", By(&[
                "buf_pool_async::a_task_whose_buffer_a_thread_took_keeps_its_place",
            ])),
        ],
    ),
    (
        "src/buf/vectored.rs",
        &[
            ("`n` is at most the sum of the lengths", Not("a promise of the caller's, the engine")),
        ],
    ),
    (
        "src/cancel_handle.rs",
        &[
            ("Linux 4.19", By(&["poll::a_cancelled_poll_says_so_and_gives_the_file_back"])),
            ("the callback is called with ECANCELED", By(&[
                "poll::ten_thousand_polls_cancelled_while_they_fire_complete_once_each",
            ])),
        ],
    ),
    (
        "src/completion.rs",
        &[
            ("Never more than was asked for", Not("no kernel that counts too much is at hand; the cut is in `completion::outcome`'s caller")),
            ("EINVAL: with O_DIRECT", By(&["errors::misaligned_direct_requests_say_einval_in_the_result"])),
            ("EFBIG: beyond", By(&[
                "errors::a_write_past_the_file_size_limit_is_short_and_then_says_efbig",
                "faults/ends::a_write_past_the_file_size_limit_kills_unless_sigxfsz_is_ignored",
            ])),
            ("ENOSPC, EDQUOT", By(&["faults/ends::a_full_ext4_says_enospc_and_spares_the_neighbours"])),
            ("EIO: the device failed", By(&["faults/results::a_failing_disk_is_a_failing_request"])),
            ("EFAULT: memory that the process has unmapped", By(&[
                "errors::memory_that_is_not_mapped_says_efault_in_the_result",
            ])),
            ("EAGAIN: [`NOWAIT`]", By(&["flags::nowait_completes_with_eagain_where_it_would_block"])),
            ("EINTR: a signal interrupted", By(&[
                "faults/results::eintr_and_eagain_as_results_are_not_retried_behind_the_users_back",
            ])),
            ("EPERM: a sealed memfd", By(&["errors::a_sealed_file_says_eperm_in_the_result"])),
            ("ECANCELED: the kernel context went away", By(&[
                "faults/hostile::a_context_destroyed_behind_its_back_is_told_from_a_bad_request",
                "faults/refused::eagain_for_ever_ends_in_enomem_once_nothing_is_in_flight",
            ])),
        ],
    ),
    (
        "src/direct/error.rs",
        &[
            ("EBADF of an `O_PATH` descriptor, EIO", By(&[
                "direct::a_descriptor_that_only_names_a_file_comes_back_with_its_errno",
            ])),
        ],
    ),
    (
        "src/direct/limits.rs",
        &[
            ("XFS since Linux 6.16", Not("needs a device with atomic writes")),
        ],
    ),
    (
        "src/direct/mod.rs",
        &[
            ("Otherwise the request completes with `EINVAL`", By(&[
                "errors::misaligned_direct_requests_say_einval_in_the_result",
                "direct::a_file_that_would_go_through_the_page_cache_unnoticed_is_refused",
            ])),
            ("`STATX_DIOALIGN` of `statx(2)`", By(&[
                "direct::the_alignments_that_the_kernel_names_suffice",
                "direct::where_statx_is_refused_the_alignments_come_from_the_block_size",
            ])),
            ("at least 512 and at most 4096", By(&[
                "direct::where_nothing_names_them_the_alignments_come_from_the_block_size",
            ])),
            ("btrfs, since Linux 6.15", By(&[
                "faults/direct::btrfs_takes_direct_io_and_writes_through_the_page_cache",
            ])),
            ("tmpfs (since Linux 6.6)", By(&[
                "direct::a_file_that_would_go_through_the_page_cache_unnoticed_is_refused",
            ])),
            ("EBADF of an `O_PATH` descriptor, EIO", By(&[
                "direct::a_descriptor_that_only_names_a_file_comes_back_with_its_errno",
            ])),
            ("Always true, except after", By(&[
                "direct::what_can_be_direct_is_direct_also_where_buffered_would_do",
                "direct::a_buffered_file_stands_in_only_where_asked_and_wants_nothing",
            ])),
            ("XFS with reflink, since Linux 6.14", By(&[
                "direct::the_alignments_that_the_kernel_names_suffice",
            ])),
            ("Known since Linux 6.11", By(&[
                "direct::the_atomic_writes_that_a_file_offers_are_taken_and_others_refused",
            ])),
            ("the ioctl `BLKGETSIZE64`", By(&["direct::a_block_device_says_its_length_and_block"])),
            ("`ENOSPC`, `EDQUOT`: not enough space", By(&[
                "direct::space_that_cannot_be_reserved_is_an_error",
            ])),
            ("`EFBIG`: longer than", By(&["direct::space_that_cannot_be_reserved_is_an_error"])),
            ("`EOPNOTSUPP`: the file system can't", Not("no file system at hand is without fallocate")),
            ("`EBADF`: not open for writing", By(&["direct::space_that_cannot_be_reserved_is_an_error"])),
            ("`EMFILE`: the process has no descriptor left", Not("the errno of dup is passed on as it is")),
        ],
    ),
    (
        "src/direct/options.rs",
        &[
            ("that always adds `O_DIRECT`", By(&["direct::flags_of_the_users_own_do_not_replace_direct_io"])),
            ("Everything else that `open(2)` says", By(&["direct::other_errors_of_open_are_passed_on"])),
            ("what the system says to the question (EIO)", By(&[
                "direct::other_errors_of_open_are_passed_on",
            ])),
        ],
    ),
    (
        "src/dispatch.rs",
        &[
            ("Callbacks also run inside the other calls that poll such a context", By(&[
                "dispatch::manual_makes_no_thread_and_calls_back_only_in_poll",
                "documented::under_manual_callbacks_run_in_every_call_that_waits_for_all",
            ])),
            ("callbacks never run elsewhere, and never two at once", By(&[
                "callback::callbacks_run_on_the_completion_thread_of_their_context",
                "callback::callbacks_of_one_context_run_one_after_the_other_and_outside_submit",
            ])),
        ],
    ),
    (
        "src/error.rs",
        &[
            ("What was in flight never completes", By(&[
                "faults/hostile::a_context_destroyed_while_a_thread_sleeps_in_it_is_gone_for_all",
                "faults/hostile::a_ring_whose_head_is_forged_is_not_read_and_its_context_is_lost",
                "faults/hostile::a_context_whose_events_are_refused_is_lost",
            ])),
            ("does not exist here: ENOSYS", By(&[
                "faults/refused::a_call_that_does_not_exist_is_unsupported_and_named",
            ])),
            ("is forbidden here: EPERM or EACCES", By(&[
                "faults/refused::a_call_that_a_filter_refuses_is_named",
            ])),
            ("`io_setup`: EAGAIN, even", By(&[
                "faults/quota::a_used_up_quota_halves_the_depth_and_at_last_is_an_error_with_numbers",
            ])),
            ("`io_setup`: ENOMEM", By(&["setup::too_little_address_space_says_no_memory"])),
            ("The completion thread could not be started", By(&[
                "faults/refused::a_thread_that_nproc_forbids_is_named",
                "faults/refused::a_thread_that_a_new_pid_namespace_forbids_is_named",
            ])),
            ("for example EMFILE", By(&["setup::no_descriptor_left_is_an_error_and_no_leak"])),
            ("`io_submit` returned EAGAIN again and again", By(&[
                "faults/refused::eagain_for_ever_with_nothing_in_flight_is_stalled",
            ])),
        ],
    ),
    (
        "src/flags/mod.rs",
        &[
            ("always true of an empty `other`", By(&["flag_sets::flags_have_the_operators_of_sets"])),
        ],
    ),
    (
        "src/flags/poll.rs",
        &[
            ("the kernel refuses larger masks", Not("the type has no more bits")),
            ("are reported whether asked for or not", By(&[
                "flags::a_poll_reports_what_it_waited_for_and_hang_ups_always",
            ])),
            ("Polls exist since Linux 4.19", Not(OLDER_KERNEL)),
            ("Always reported", By(&["flags::a_poll_reports_what_it_waited_for_and_hang_ups_always"])),
        ],
    ),
    (
        "src/flags/priority.rs",
        &[
            ("since Linux 4.18", Not(OLDER_KERNEL)),
            ("`EPERM` for [`real_time`]", By(&[
                "flags::real_time_needs_a_privilege",
                "flags::the_kernel_takes_good_priorities_and_refuses_bad_ones",
            ])),
            ("Since Linux 6.5", Not(OLDER_KERNEL)),
        ],
    ),
    (
        "src/flags/rw.rs",
        &[
            ("a kernel older than a flag refuses", By(&[
                "flags::a_bit_that_the_kernel_does_not_know_is_refused",
            ])),
            ("| [`HIPRI`]", By(&["flags::hipri_is_accepted_and_changes_nothing"])),
            ("| [`DSYNC`]", By(&["flags::dsync_and_sync_writes_have_their_blocks_when_they_complete"])),
            ("| [`NOWAIT`]", By(&[
                "flags::nowait_is_refused_by_a_file_that_cannot_tell",
                "flags::nowait_completes_with_eagain_where_it_would_block",
            ])),
            ("| [`APPEND`]", By(&["flags::append_and_noappend_together_are_refused"])),
            ("| [`NOAPPEND`]", By(&["flags::noappend_honours_the_offset_of_a_file_open_for_appending"])),
            ("| [`ATOMIC`]", By(&[
                "flags::atomic_is_refused_for_reads_and_for_files_that_cannot",
                "direct::the_atomic_writes_that_a_file_offers_are_taken_and_others_refused",
            ])),
            ("| [`DONTCACHE`]", By(&["flags::dontcache_is_refused_by_a_file_system_without_it"])),
            ("| [`NOSIGNAL`]", By(&["flags::nosignal_keeps_a_broken_pipe_from_signalling"])),
            ("| any other bit", By(&["flags::a_bit_that_the_kernel_does_not_know_is_refused"])),
            ("An fsync or a poll with any flag", By(&["flags::a_poll_or_sync_with_flags_is_refused"])),
            ("Since Linux ", Not(OLDER_KERNEL)),
            ("Complete with `EAGAIN` where", By(&[
                "flags::nowait_completes_with_eagain_where_it_would_block",
            ])),
            ("where it does not (tmpfs; pipes before Linux 6.4) the", By(&[
                "errors::nowait_on_tmpfs_is_refused_as_unsupported",
                "flags::nowait_is_refused_by_a_file_that_cannot_tell",
            ])),
            ("together with [`NOAPPEND`](Self::NOAPPEND)", By(&[
                "flags::append_and_noappend_together_are_refused",
            ])),
            ("that has the append-only attribute", By(&[
                "flags::noappend_honours_the_offset_of_a_file_open_for_appending",
            ])),
            ("with atomic writes (block devices since", By(&[
                "flags::atomic_is_refused_for_reads_and_for_files_that_cannot",
            ])),
            ("from the submission: a read, or the file can't", By(&[
                "flags::atomic_is_refused_for_reads_and_for_files_that_cannot",
            ])),
            ("where the file could but was not opened with `O_DIRECT`", Not("needs a device with atomic writes")),
            ("where the file system can't or the file is DAX", By(&[
                "flags::dontcache_is_refused_by_a_file_system_without_it",
            ])),
            ("In Linux 6.18 ext4 and XFS can", By(&[
                "flags::dontcache_leaves_nothing_in_the_page_cache",
                "flags::dontcache_is_refused_by_a_file_system_without_it",
            ])),
            ("just the result `EPIPE`", By(&["flags::nosignal_keeps_a_broken_pipe_from_signalling"])),
        ],
    ),
    (
        "src/iocb/exact.rs",
        &[
            ("Goes on after a short read", By(&[
                "faults/exact::short_reads_are_put_together",
                "faults/exact::an_interrupted_transfer_is_repeated",
            ])),
            ("Goes on after a short write", By(&[
                "faults/exact::three_hundred_random_splits_are_written_whole_under_signals",
            ])),
            ("ENOSPC where a plain write", By(&[
                "faults/exact::a_full_file_system_takes_a_part_and_then_says_so",
            ])),
            ("each byte is written once", By(&[
                "exact::appending_ignores_the_offset_and_appends_all",
                "faults/exact::a_short_read_of_an_appending_file_goes_on_at_the_last_block",
            ])),
        ],
    ),
    (
        "src/iocb/mod.rs",
        &[
            ("Never fails, never blocks, allocates nothing", By(&[
                "setup::a_request_that_is_made_makes_no_context",
                "documented::making_a_request_allocates_nothing",
            ])),
            ("With O_DIRECT the device decides", By(&[
                "errors::misaligned_direct_requests_say_einval_in_the_result",
            ])),
            ("Opcodes `IOCB_CMD_PREAD`", By(&[
                "abi_table::all_of_the_bindings_is_in_the_table_and_nothing_else",
            ])),
            ("EINVAL where the file has no fsync", By(&[
                "errors::what_the_kernel_refuses_comes_from_submit_and_is_never_called_back",
            ])),
            ("if what was written before could not be stored", By(&[
                "faults/results::a_failed_sync_is_a_result",
            ])),
            ("Opcode `IOCB_CMD_FSYNC`", Not(OLDER_KERNEL)),
            ("Opcode `IOCB_CMD_FDSYNC`", Not(OLDER_KERNEL)),
            ("EINVAL where the wait would have to begin", By(&[
                "poll::a_terminal_is_refused_where_it_would_have_to_be_waited_for",
                "poll::a_regular_file_is_always_ready_and_for_nothing_else",
                "faults/offload::a_sync_or_a_poll_is_refused",
            ])),
            ("Opcode `IOCB_CMD_POLL`", Not(OLDER_KERNEL)),
            ("called exactly once, with the result", By(&["callback::each_callback_is_called_exactly_once"])),
            ("its callback will be called exactly once", By(&[
                "callback::each_callback_is_called_exactly_once",
            ])),
            ("because the kernel's slots are full", By(&[
                "backlog::two_hundred_thousand_requests_from_one_thread_complete_in_order",
            ])),
            ("EBADF: the descriptor is not open", By(&[
                "errors::what_the_kernel_refuses_comes_from_submit_and_is_never_called_back",
            ])),
            ("EINVAL: the offset, or offset and length", By(&[
                "errors::what_the_kernel_refuses_comes_from_submit_and_is_never_called_back",
                "buffers::more_pieces_than_the_kernel_takes_are_refused_and_come_back",
                "flags::what_is_no_eventfd_is_refused",
            ])),
            ("EFAULT: a buffer reaches", By(&[
                "errors::what_the_kernel_refuses_comes_from_submit_and_is_never_called_back",
            ])),
            ("EOPNOTSUPP: a flag", By(&["flags::a_bit_that_the_kernel_does_not_know_is_refused"])),
            ("EPERM: a real-time priority", By(&["flags::real_time_needs_a_privilege"])),
            ("The errno of the file operation itself (EIO", By(&[
                "faults/results::an_errno_reaches_waiter_callback_and_future_and_spares_the_neighbours",
            ])),
            ("48 bytes at most", By(&["documented::a_closure_of_the_documented_size_needs_no_allocation"])),
        ],
    ),
    (
        "src/iocb/options.rs",
        &[
            ("makes `submit` say EOPNOTSUPP", By(&[
                "flags::a_bit_that_the_kernel_does_not_know_is_refused",
                "flags::a_poll_or_sync_with_flags_is_refused",
            ])),
            ("Linux 4.13.", Not(OLDER_KERNEL)),
            ("EPERM for real time", By(&[
                "flags::real_time_needs_a_privilege",
                "flags::the_kernel_takes_good_priorities_and_refuses_bad_ones",
            ])),
            ("Linux 4.18.", Not(OLDER_KERNEL)),
            ("EINVAL if it is no eventfd", By(&["flags::what_is_no_eventfd_is_refused"])),
            ("Linux 2.6.22", Not(OLDER_KERNEL)),
            ("Tries with [`NOWAIT`]", By(&[
                "faults/offload::a_submitter_is_not_blocked_where_it_would_have_been",
                "faults/offload::a_file_that_does_not_know_nowait_is_read_and_written_all_the_same",
            ])),
            ("a sync or a poll takes no flags, and `submit` says EINVAL", By(&[
                "faults/offload::a_sync_or_a_poll_is_refused",
            ])),
            ("Linux 4.13; before, each request is offloaded", Not(OLDER_KERNEL)),
        ],
    ),
    (
        "src/lib.rs",
        &[
            ("two contexts whose callbacks wait for each other would never end", By(&[
                "shutdown::what_would_wait_for_the_callback_itself_says_so",
            ])),
            ("The result is `ECANCELED`, unless an event came first", By(&[
                "poll::a_cancelled_poll_says_so_and_gives_the_file_back",
                "poll::cancelling_what_has_fired_changes_nothing",
            ])),
            ("Both refuse new requests and cancel waits for readiness", By(&[
                "poll::shutting_down_cancels_armed_polls",
            ])),
            ("64 rounds, and for 8 rounds after one that took long", By(&[
                "documented::a_new_contexts_callbacks_send_one_by_one_for_64_rounds",
                "callback::slow_callbacks_do_not_hold_back_for_long_what_others_submit",
            ])),
            ("A context gets requests in the order in which one thread submitted them", By(&[
                "backlog::callbacks_submits_waits_and_starts_of_one_thread_keep_their_order",
                "backlog::what_callbacks_submit_keeps_its_order",
                "shards::each_threads_requests_keep_their_order_on_its_shard",
            ])),
            ("The request's callback will never be called", By(&[
                "errors::what_the_kernel_refuses_comes_from_submit_and_is_never_called_back",
            ])),
            ("The reason is an errno with which the kernel refused the arguments", By(&[
                "errors::what_the_kernel_refuses_comes_from_submit_and_is_never_called_back",
                "setup::a_request_without_a_context_comes_back_with_the_reason",
            ])),
            ("exactly once for each request for which `submit` returned `Ok`", By(&[
                "callback::each_callback_is_called_exactly_once",
            ])),
            ("It is an errno of the file operation, as `pread(2)`", By(&[
                "faults/results::an_errno_reaches_waiter_callback_and_future_and_spares_the_neighbours",
                "errors::misaligned_direct_requests_say_einval_in_the_result",
            ])),
            ("A misaligned transfer has `EINVAL` as its result", By(&[
                "errors::misaligned_direct_requests_say_einval_in_the_result",
                "direct::a_file_that_would_go_through_the_page_cache_unnoticed_is_refused",
            ])),
            ("The global context is never dropped", By(&["shutdown::the_shared_context_can_be_drained"])),
            ("more than 2 GiB less 4 KiB is always short", By(&[
                "read_write::more_than_two_gibibytes_come_back_short",
            ])),
        ],
    ),
    (
        "src/op/poll_ready.rs",
        &[
            ("which are always looked for", By(&[
                "flags::a_poll_reports_what_it_waited_for_and_hang_ups_always",
            ])),
            ("ECANCELED: it was [cancelled]", By(&[
                "poll::a_cancelled_poll_says_so_and_gives_the_file_back",
            ])),
        ],
    ),
    (
        "src/op/transfer.rs",
        &[
            ("At most 1024 of them", By(&[
                "read_write::the_largest_number_of_buffers_works",
                "buffers::more_pieces_than_the_kernel_takes_are_refused_and_come_back",
                "exact::more_pieces_than_the_kernel_takes_at_once_are_transferred",
            ])),
        ],
    ),
    (
        "src/local_aio.rs",
        &[
            ("is called exactly once, on this thread, inside", By(&[
                "queue::local_callbacks_and_tags_need_not_be_send",
                "queue::dropping_a_local_handle_calls_what_is_outstanding",
                "queue::what_is_local_leaks_where_a_shutdown_gave_up",
                "queue::what_is_local_leaks_where_the_drop_must_not_wait",
            ])),
            ("that is 40 bytes at most, beside", By(&["allocation::nothing_is_allocated_in_the_steady_state"])),
        ],
    ),
    (
        "src/queue.rs",
        &[
            ("Each request that was pushed comes back exactly once", By(&[
                "queue::everything_that_is_pushed_comes_back_once_with_its_tag",
                "queue::nothing_is_lost_when_the_context_is_shut_down",
            ])),
            ("is ECANCELED", By(&["queue::nothing_is_lost_when_the_context_is_shut_down"])),
            ("if the tag has at most 32 bytes beside", By(&["allocation::nothing_is_allocated_in_the_steady_state"])),
        ],
    ),
    (
        "src/pending.rs",
        &[
            ("Linux 4.19; reads and writes can't be cancelled", By(&["sys::a_read_cannot_be_cancelled"])),
            ("ECANCELED, or the events that came first", By(&[
                "poll::a_batch_on_its_way_is_cancelled_by_another_thread",
                "poll::cancelling_what_has_fired_changes_nothing",
            ])),
        ],
    ),
    (
        "src/scope/alone.rs",
        &[
            ("EINVAL for more than 1024 buffers", By(&["borrowed::several_buffers_are_one_transfer"])),
            ("Linux 4.18.", Not(OLDER_KERNEL)),
            ("EINVAL for any [flags]", By(&[
                "borrowed::options_reach_the_kernel_with_each_kind_of_request",
            ])),
        ],
    ),
    (
        "src/scope/options.rs",
        &[
            ("A sync takes none (EINVAL)", By(&[
                "borrowed::options_reach_the_kernel_with_each_kind_of_request",
            ])),
            ("Linux 4.13.", Not(OLDER_KERNEL)),
            ("Linux 4.18.", Not(OLDER_KERNEL)),
        ],
    ),
    (
        "src/scope/with.rs",
        &[
            ("The result is EINVAL for any [flags]", By(&[
                "borrowed::a_scopes_options_are_those_of_the_requests_made_by_them",
            ])),
        ],
    ),
    (
        "src/stats.rs",
        &[
            ("to exactly one while nothing is outstanding", By(&[
                "stats::nothing_is_outstanding_at_rest",
                "stats::the_counters_add_up_in_the_middle_of_a_batch",
            ])),
        ],
    ),
    (
        "src/stream/error.rs",
        &[("for EINTR, because", By(&[
            "faults/stream::a_sync_that_was_interrupted_does_not_ask_for_another_try",
        ]))],
    ),
    (
        "src/stream/options.rs",
        &[
            ("0: never.", By(&["stream::what_is_skipped_is_a_hole_of_zeroes"])),
            ("those of that read: EBADF", By(&["stream::a_file_that_is_not_open_for_it_is_ebadf"])),
        ],
    ),
    (
        "src/stream/reader.rs",
        &[
            ("[`Completion::result`](crate::Completion::result): EIO", By(&[
                "faults/stream::a_read_that_fails_is_an_error_at_its_place_and_read_again",
            ])),
            ("EBADF where the file is not open for reading", By(&[
                "stream::a_file_that_is_not_open_for_it_is_ebadf",
                "stream::after_a_shutdown_what_was_read_ahead_comes_and_then_the_reason",
            ])),
        ],
    ),
    (
        "src/stream/writer.rs",
        &[
            ("ENOSPC, EDQUOT, EIO, and EFBIG", By(&[
                "faults/stream::a_full_file_system_is_enospc_at_its_place_and_stays",
                "faults/stream::the_error_of_one_block_stays_though_later_ones_are_written",
            ])),
            ("EBADF where the file is not open for writing", By(&[
                "stream::a_file_that_is_not_open_for_it_is_ebadf",
                "stream::after_a_shutdown_what_was_read_ahead_comes_and_then_the_reason",
            ])),
        ],
    ),
    (
        "src/sync_group/mod.rs",
        &[
            ("Syncs of one group never overlap", By(&[
                "faults/sync_group::barriers_that_come_while_a_sync_is_held_share_the_next",
            ])),
            ("share the next, whichever threads make them", By(&[
                "documented::barriers_that_wait_together_share_one_sync_call",
                "faults/sync_group::barriers_that_come_while_a_sync_is_held_share_the_next",
            ])),
            ("Linux 4.13", Not(OLDER_KERNEL)),
            ("EINVAL where this file has none", By(&[
                "sync_group::a_sync_that_is_refused_gives_back_the_callback_and_leaves_no_error",
            ])),
        ],
    ),
    (
        "src/sync_group/write.rs",
        &[
            ("the write counts as failed (ECANCELED)", By(&[
                "sync_group::other_ways_to_write_are_tracked_by_hand",
            ])),
        ],
    ),
    (
        "src/sys/abi.rs",
        &[
            ("`aio_nbytes`", By(&["read_write::more_than_two_gibibytes_come_back_short"])),
            ("Since Linux ", Not(OLDER_KERNEL)),
            ("named in the header, but refused", By(&["sys::a_file_that_cannot_do_it_is_einval"])),
            ("complete with `EAGAIN` rather than block", By(&[
                "sys::an_empty_pipe_that_must_not_block_is_eagain_in_the_event",
            ])),
        ],
    ),
    (
        "src/sys/syscall.rs",
        &[
            ("Linux 2.5)", Not("older than any kernel that Rust runs on")),
            ("Linux 4.18)", Not(OLDER_KERNEL)),
            ("would pass `fs.aio-max-nr`", By(&["sys::more_than_the_machine_allows_is_eagain"])),
            ("`nr_events` is 0", By(&["sys::no_events_or_too_many_are_einval"])),
            ("no memory, or no address space", By(&["sys::no_address_space_is_enomem"])),
            ("the thread is being killed", Not("a thread that is killed tells nothing")),
            ("a kernel without `CONFIG_AIO`", By(&["sys::a_filters_errno_is_passed_on"])),
            ("forbidden by a seccomp filter", By(&["sys::a_filters_errno_is_passed_on"])),
            ("Calls of other threads on this context", By(&[
                "sys::every_call_on_a_destroyed_context_is_einval",
            ])),
            ("not a context of this process", By(&[
                "sys::what_never_was_a_context_is_einval",
                "sys::a_forked_child_has_no_context",
            ])),
            ("as for [`io_setup`]", By(&["sys::a_filters_errno_is_passed_on"])),
            ("Errors of the operation itself", By(&[
                "sys::an_unmapped_buffer_is_efault_in_the_event",
                "sys::a_write_past_the_size_limit_is_efbig_in_the_event",
            ])),
            ("no free slot in the ring", By(&["sys::a_full_ring_is_eagain_until_an_event_is_reaped"])),
            ("`aio_fildes` is closed", By(&[
                "sys::the_wrong_descriptor_is_ebadf_even_for_no_bytes",
                "sys::a_closed_eventfd_is_ebadf",
            ])),
            ("the buffer is not in user space", By(&[
                "sys::bad_pointers_are_efault",
                "sys::a_buffer_outside_user_space_is_efault",
            ])),
            ("the request is malformed", By(&[
                "sys::a_malformed_request_is_einval",
                "sys::a_file_that_cannot_do_it_is_einval",
                "sys::a_negative_count_is_einval",
            ])),
            ("an `RWF_*` flag that this kernel", By(&["sys::an_unknown_flag_is_eopnotsupp"])),
            ("a real-time `aio_reqprio`", By(&["flags::real_time_needs_a_privilege"])),
            ("is an address that user space can't write", By(&[
                "sys::an_unwritable_buffer_waits_and_takes_nothing",
            ])),
            ("a signal came before any event", By(&[
                "sys::a_signal_ends_the_wait_with_eintr_although_it_restarts",
            ])),
            ("`events` can't be written", By(&["sys::an_unwritable_buffer_waits_and_takes_nothing"])),
            ("`min_nr` > `nr`", By(&["sys::more_than_fits_is_einval"])),
            ("As for [`io_getevents`], where `ENOSYS`", By(&["sys::a_filters_errno_is_passed_on"])),
            ("never reads or writes of ordinary files", By(&["sys::a_read_cannot_be_cancelled"])),
            ("The usual success is the error `EINPROGRESS`", By(&[
                "sys::a_cancelled_poll_has_an_event_of_its_own",
            ])),
            ("cancelled; its event follows", By(&["sys::a_cancelled_poll_has_an_event_of_its_own"])),
            ("no such request in flight", By(&["sys::a_request_is_known_by_its_address_and_key"])),
            ("`iocb` can't be read", By(&["sys::an_unreadable_request_is_efault"])),
            ("the driver could not cancel it", Not("needs a USB gadget")),
        ],
    ),
];
