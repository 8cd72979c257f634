/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading without a system call (docs/memory-model.md, "Pins without asking"), for spin: readers find, pin, read,
 * check and unpin, while the daemon, the only writer of the arena, evicts and uses memory again.
 *
 * The arena holds one block at a time. It has one of two keys and one of two numbers, and always the same memory: a
 * page map of one entry and a page of two words. Both hold a stamp that says which life of which number they belong
 * to, so that a reader knows wrong bytes when it sees them. Number 2 was never used at first: its generation is 0.
 *
 * What is proved (the assertions, and no end but those marked):
 *   - bytes_changed_under_a_pin: a pinned block keeps its bytes until it is unpinned, unless the session is over;
 *   - result_is_wrong: a result that passed the last check is what was asked for, session over or not;
 *   - rests_for_ever: a scan that begins when no hazard is set any more finds none, so what rests is buried;
 *   - with LIVENESS: what rests is buried in the end, also when readers die.
 *
 * The index gives a number that it held at some time. With INDEX_ANY it may give any, as a bucket read in halves could;
 * then number 2 has lived before. RECORDS adds the count of records in use, which starts at 0. Sessions end at any
 * moment (never with SESSIONS_STAY), and their readers go on; a reader that dies is, but for LIVENESS, one that does
 * not go on. The daemon evicts what is pinned as readily as what is not.
 *
 * Each MUTATION leaves out or turns round one thing that the proof needs, and must be refuted. Each SPARE leaves out
 * one that it does not need.
 *
 * How memory behaves is in memory-tso.pml or memory-c11.pml. Thread 0 is the daemon, 1..READERS are the readers.
 */
#ifndef READERS
#define READERS 1
#endif
#ifndef ROUNDS /* of each reader */
#define ROUNDS 1
#endif
#ifndef LIVES /* that end; the first is there at the beginning */
#define LIVES 2
#endif

#define THREADS (READERS + 1)
#define DAEMON 0

/* Locations in the arena: INDEX + key 0, 1; GENERATION and KEY + number 1, 2; the memory of every block. */
#define INDEX 0
#define GENERATION 1
#define KEY 3
#define MAP 6
#define WORD0 7
#define WORD1 8
#define ARENA_LOCATIONS 9

/* Locations in each reader's control memory. */
#define HAZARD 9
#define USED 10
#define LOCATIONS 11

#define NO_KEY 2

/* Of an even generation 2..8. */
#define STAMP(number, generation, key) ((number) - 1 + (generation) - 2 + KEY_STAMP * (key))
#define KEY_STAMP 8
#define READY 16

#ifdef INDEX_ANY
#define SECOND_GENERATION 1
#else
#define SECOND_GENERATION 0
#endif

#ifdef RECORDS
#define USED_AT_FIRST 0
#else
#define USED_AT_FIRST 1
#endif

/* A block with number 1 and key 0 is there. */
#define INITIAL(at) \
	((at) == INDEX -> 1 : ((at) == GENERATION + 1 -> 2 : ((at) == GENERATION + 2 -> SECOND_GENERATION : \
	((at) == KEY + 2 -> NO_KEY : ((at) == MAP -> STAMP(1, 2, 0) + READY : \
	((at) == WORD0 || (at) == WORD1 -> STAMP(1, 2, 0) : ((at) == USED -> USED_AT_FIRST : 0)))))))

/* What MUTATION may be. */
#define NOTHING 0
#define LOOK_EARLY 1		/* the generation is looked at before the hazard is set, not after */
#define NO_READER_FENCE 2	/* there is no fence between the hazard and that look */
#define NO_DAEMON_FENCES 3	/* neither a death nor a scan has a fence */
#define OLD_SCAN 4		/* what a scan before the death saw is believed */
#define NO_CHECK 5		/* a result is returned without the last check */
#define UNLINK_ONLY 6		/* a death leaves the generation as it is */
#define UNPIN_EARLY 7		/* a hazard is cleared before the bytes are read */
#define BIRTH_EARLY 8		/* a generation is even before the fields are written */
#define READY_EARLY 9		/* a page is ready before its bytes are written */
#define INDEX_EARLY 10		/* a block is in the index before its generation is even */
#define RECORD_LATE 11		/* a record is counted only after the fence */
#define HAZARDS_STAY 12		/* the hazards of a session that is over still count */
#define BIRTH_RELAXED 13	/* an even generation is not a release store */
#define READY_RELAXED 14	/* nor is a page's readiness */
#define INDEX_RELAXED 15	/* nor is an index entry */
#define READY_UNORDERED 16	/* readiness is not an acquire load */
#define FIND_UNORDERED 17	/* nor is the look at the generation, whose fence comes before it */
#define CHECK_UNORDERED 18	/* no acquire fence before the last check */
#define DEATH_UNORDERED 19	/* no fence after a death when no session is left and so no scan comes */
#define SPARE_DEATH_FENCE 20	/* the same where stores keep their order */
#define SPARE_SCAN_FENCE 21	/* no fence before a scan: the one after the death does for it */

#ifndef MUTATION
#define MUTATION NOTHING
#endif

/* Names of memories. */
#define TSO 1
#define C11 2

#if MEMORY == TSO
#include "memory-tso.pml"
#elif MEMORY == C11
#include "memory-c11.pml"
#else
#error MEMORY is not a memory
#endif

/* What only the proof knows. */
bit bytes_changed_under_a_pin;
bit result_is_wrong;
bit rests_for_ever;
bit finished[THREADS]; /* readers that will set no hazard any more; a dead one is not finished */
bit dead[THREADS];
bit rests;             /* a block, in limbo */

/* Sessions whose hazards are void. The readers do not look at it. */
bit over[THREADS];

/* ---- Readers ---- */

#if MUTATION == NO_READER_FENCE
#define reader_fence(me) skip
#else
#define reader_fence(me) fence_full(me)
#endif

#if MUTATION == FIND_UNORDERED
#define load_found(me, owner, at, into) load(me, owner, at, into)
#else
#define load_found(me, owner, at, into) load_acquire(me, owner, at, into)
#endif

#if MUTATION == READY_UNORDERED
#define load_ready(me, owner, at, into) load(me, owner, at, into)
#else
#define load_ready(me, owner, at, into) load_acquire(me, owner, at, into)
#endif

#if MUTATION == CHECK_UNORDERED
#define fence_check(me) skip
#else
#define fence_check(me) fence_acquire(me)
#endif

#if MUTATION == NO_CHECK
#define PASSED true
#else
#define PASSED seen == generation
#endif

inline may_die()
{
#ifdef LIVENESS
	if
	:: dead[me] = 1; goto gone
	:: true
	fi
#else
	skip
#endif
}

/* A word of the pinned block was loaded. In a session that is over it may be any, until the check. */
inline see()
{
	d_step {
		bytes_changed_under_a_pin = !over[me] && seen % KEY_STAMP != STAMP(number, generation, 0);
		assert(!bytes_changed_under_a_pin);
		wrong = wrong || seen % READY != STAMP(number, generation, key)
	}
}

/* Whether it is alive and has the key. */
inline look_at_block()
{
	load_found(me, DAEMON, GENERATION + number, generation);
	if
	:: generation % 2 == 1 -> goto unpin
	:: else
	fi;
	load(me, DAEMON, KEY + number, seen);
	if
	:: seen != key -> goto unpin
	:: else
	fi
}

proctype Reader(byte me)
{
	byte rounds = ROUNDS;
	byte key, number, generation, seen;
	bit wrong;

round:	if
	:: key = 0
	:: key = 1
	fi;
	/* Find. */
#ifdef INDEX_ANY
	if
	:: number = 1
	:: number = 2
	fi;
#else
	load_acquire(me, DAEMON, INDEX + key, number);
	if
	:: number == 0 -> goto rounded
	:: else
	fi;
#endif
#if MUTATION == LOOK_EARLY
	look_at_block();
#endif
	/* Pin. */
#if defined(RECORDS) && MUTATION != RECORD_LATE
	store_release(me, USED, 1);
#endif
	store(me, HAZARD, number);
	reader_fence(me);
#if MUTATION == RECORD_LATE
	store_release(me, USED, 1);
#endif
#if MUTATION != LOOK_EARLY
	look_at_block();
#endif
	may_die();
#if MUTATION == UNPIN_EARLY
	store_release(me, HAZARD, 0);
#endif
	/* Use. */
	atomic { load_ready(me, DAEMON, MAP, seen); see() }
	if
	:: seen < READY -> goto unpin /* no page yet, so no result */
	:: else
	fi;
	atomic { load(me, DAEMON, WORD0, seen); see() }
	atomic { load(me, DAEMON, WORD1, seen); see() }
	/* Check. */
	fence_check(me);
	atomic {
		load(me, DAEMON, GENERATION + number, seen);
		result_is_wrong = PASSED && wrong;
		assert(!result_is_wrong)
	}
unpin:	skip;
#if MUTATION != UNPIN_EARLY
	store_release(me, HAZARD, 0);
#endif
rounded: skip;
	d_step {
		rounds--;
		key = 0; number = 0; generation = 0; seen = 0; wrong = 0
	}
	if
	:: rounds > 0 -> goto round
	:: else
	fi;
	finished[me] = 1;
gone:	leave(me)
}

/* ---- The daemon ---- */

#if MUTATION == NO_DAEMON_FENCES || MUTATION == DEATH_UNORDERED || MUTATION == SPARE_DEATH_FENCE
#define death_fence() skip
#else
#define death_fence() fence_full(DAEMON)
#endif

#if MUTATION == NO_DAEMON_FENCES || MUTATION == SPARE_SCAN_FENCE
#define scan_fence() skip
#else
#define scan_fence() fence_full(DAEMON)
#endif

#if MUTATION == BIRTH_RELAXED
#define store_birth(at, value) store(DAEMON, at, value)
#else
#define store_birth(at, value) store_release(DAEMON, at, value)
#endif

#if MUTATION == INDEX_RELAXED
#define store_index(at, value) store(DAEMON, at, value)
#else
#define store_index(at, value) store_release(DAEMON, at, value)
#endif

#if MUTATION == READY_RELAXED
#define store_ready(at, value) store(DAEMON, at, value)
#else
#define store_ready(at, value) store_release(DAEMON, at, value)
#endif

#if READERS == 2
#define EVERY(what) what(1); what(2)
#define ALL(what) (what(1) && what(2))
#else
#define EVERY(what) what(1)
#define ALL(what) what(1)
#endif

#define is_over(session) over[session]
#define is_quiet(session) (over[session] || (finished[session] && all_seen(session)))

/* Its client may be found stuck or hang up at any time; the end of a dead one is noticed before the next scan. */
inline may_end(session)
{
#ifdef SESSIONS_STAY
	skip
#else
	if
	:: over[session] = 1
	:: !dead[session]
	fi
#endif
}

inline may_catch_up(session)
{
	if
	:: finished[session] -> catch_up(DAEMON, session)
	:: else
	fi
}

#if MUTATION == HAZARDS_STAY
#define is_void(session) false
#else
#define is_void(session) over[session]
#endif

inline look(session)
{
	seen = 1;
#ifdef RECORDS
	load_acquire(DAEMON, session, USED, seen);
#endif
	atomic {
		if
		:: is_void(session) || !seen
		:: else ->
			load_acquire(DAEMON, session, HAZARD, seen);
			named = named || seen == number
		fi;
		seen = 0
	}
}

/* Sets named. */
inline scan()
{
	atomic {
		EVERY(may_end);
		quiet = ALL(is_quiet);
		named = 0;
		scan_fence();
		if
		:: quiet -> EVERY(may_catch_up)
		:: else
		fi
	}
	EVERY(look);
	rests_for_ever = quiet && named;
	assert(!rests_for_ever);
	quiet = 0
}

proctype Daemon()
{
	byte number = 1, key = 0;
	byte generation[3];
	byte lives = LIVES;
	byte seen;
	bit named, quiet;

	generation[1] = 2;
	generation[2] = SECOND_GENERATION;
	/* Death. */
death:	EVERY(may_end);
#if MUTATION == OLD_SCAN
	scan();
#endif
	store_index(INDEX + key, 0);
#if MUTATION != UNLINK_ONLY
	generation[number]++;
	store_release(DAEMON, GENERATION + number, generation[number]);
#endif
	atomic {
		death_fence();
		rests = 1;
		if
		:: ALL(is_over) -> goto bury /* nobody is left who may pin */
		:: else
		fi
	}
#if MUTATION == OLD_SCAN
	if
	:: !named -> goto bury
	:: else
	fi;
#endif
again:	scan();
	if
	:: named -> goto again
	:: else
	fi;
bury:	rests = 0;
	named = 0;
	lives--;
	if
	:: lives == 0 -> goto done
	:: else
	fi;
	/* Birth. */
	if
	:: number = 1
	:: number = 2
	fi;
	if
	:: key = 0
	:: key = 1
	fi;
	d_step {
		generation[number] = generation[number] + 1;
		generation[number] = generation[number] + generation[number] % 2
	}
#if MUTATION == INDEX_EARLY
	store_index(INDEX + key, number);
#endif
#if MUTATION == BIRTH_EARLY
	store_birth(GENERATION + number, generation[number]);
#endif
	store(DAEMON, KEY + number, key);
	store(DAEMON, MAP, STAMP(number, generation[number], key));
#if MUTATION != BIRTH_EARLY
	store_birth(GENERATION + number, generation[number]);
#endif
#if MUTATION != INDEX_EARLY
	store_index(INDEX + key, number);
#endif
	/* Its page. */
#if MUTATION == READY_EARLY
	store_ready(MAP, STAMP(number, generation[number], key) + READY);
#endif
	store(DAEMON, WORD0, STAMP(number, generation[number], key));
	store(DAEMON, WORD1, STAMP(number, generation[number], key));
#if MUTATION != READY_EARLY
	store_ready(MAP, STAMP(number, generation[number], key) + READY);
#endif
	goto death;
done:	skip
}

init {
	d_step {
		memory_init(0);
		memory_init(1);
#if READERS == 2
		memory_init(2)
#endif
	}
	atomic {
		run Daemon();
		run Reader(1);
#if READERS == 2
		run Reader(2);
#endif
#if MEMORY == TSO
		run Drain(0);
		run Drain(1);
#if READERS == 2
		run Drain(2)
#endif
#endif
	}
}

#ifdef LIVENESS
ltl buried { [] (rests -> <> !rests) }
#endif
