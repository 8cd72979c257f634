/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory as C11 and processors like ARM have it. Every location has one thread that stores to it, and each thread has a
 * log of its stores. A load takes any store to the location that is not older than
 *   - what this thread loaded from there before (floor), and
 *   - what this thread knows of the log (known): it knows what was in the log before a release store (or before a fence
 *     before a relaxed store) whose value it loaded with acquire (or loaded, and then passed a fence), and what was in
 *     the log at full fences before its own.
 * So stores may be seen in any order, and loads may give old values, unless release, acquire and fences forbid it. What
 * does not occur is a store that is seen before an earlier load of the same thread was done; where that matters (a
 * hazard cleared before the last byte was read) the order of the program is turned round instead.
 *
 * Knowledge does not pass from one reader to the other, which only allows more.
 */
#define ARENA_LOG (ARENA_LOCATIONS + 9 * LIVES - 7)
#define CONTROL_LOG (LOCATIONS - ARENA_LOCATIONS + 3 * ROUNDS)
#define LOGS (ARENA_LOG + READERS * CONTROL_LOG)
#define IN_LOG(owner, index) (owner == DAEMON -> index : ARENA_LOG + (owner - 1) * CONTROL_LOG + index)

byte log_at[LOGS];
byte log_value[LOGS];
byte log_tells[LOGS]; /* what is known of the log after loading this with acquire; an index */
byte log_last[THREADS];
byte released[THREADS];        /* what relaxed stores tell */
byte fenced[THREADS];          /* what full fences tell of each log */
byte known[THREADS * THREADS];
byte heard[THREADS * THREADS]; /* will be known after a fence */
byte floor[THREADS * LOCATIONS]; /* of a reader in the arena, and of the daemon in the reader's memory */
byte scan_at;
hidden byte step;

#define OF(me, owner) ((me) * THREADS + (owner))
#define FLOOR(me, owner, at) floor[((me) + (owner)) * LOCATIONS + (at)] /* one of them is the daemon */

inline memory_init(owner)
{
	step = (owner == DAEMON -> 0 : ARENA_LOCATIONS);
	log_last[owner] = 0;
	do
	:: step < (owner == DAEMON -> ARENA_LOCATIONS : LOCATIONS) ->
		log_at[IN_LOG(owner, log_last[owner])] = step;
		log_value[IN_LOG(owner, log_last[owner])] = INITIAL(step);
		log_last[owner]++;
		step++
	:: else -> break
	od;
	log_last[owner]--;
	released[owner] = log_last[owner];
	fenced[owner] = log_last[owner];
	known[OF(DAEMON, owner)] = log_last[owner];
	known[OF(owner, DAEMON)] = ARENA_LOCATIONS - 1
}

inline store_telling(me, at, value, release)
{
	d_step {
		assert(log_last[me] < (me == DAEMON -> ARENA_LOG : CONTROL_LOG) - 1);
		log_last[me]++;
		log_at[IN_LOG(me, log_last[me])] = at;
		log_value[IN_LOG(me, log_last[me])] = value;
		log_tells[IN_LOG(me, log_last[me])] = (release -> log_last[me] : released[me])
	}
}

#define store(me, at, value) store_telling(me, at, value, 0)
#define store_release(me, at, value) store_telling(me, at, value, 1)

/* Floors and what was heard are kept only above what is known: fewer states mean the same. */
inline load_hearing(me, owner, at, into, acquire)
{
	atomic {
		scan_at = log_last[owner];
		do
		:: log_at[IN_LOG(owner, scan_at)] == at -> break
		:: log_at[IN_LOG(owner, scan_at)] != at ||
		   (scan_at > known[OF(me, owner)] && scan_at > FLOOR(me, owner, at)) -> scan_at--
		od;
		into = log_value[IN_LOG(owner, scan_at)];
		d_step {
			step = log_tells[IN_LOG(owner, scan_at)];
			if
			:: acquire && step > known[OF(me, owner)] -> known[OF(me, owner)] = step
			:: !acquire && step > known[OF(me, owner)] && step > heard[OF(me, owner)] ->
				heard[OF(me, owner)] = step
			:: else
			fi;
			FLOOR(me, owner, at) = scan_at;
			scan_at = 0;
			forget_floors(me, owner)
		}
	}
}

#define load(me, owner, at, into) load_hearing(me, owner, at, into, 0)
#define load_acquire(me, owner, at, into) load_hearing(me, owner, at, into, 1)

/* After more became known. */
inline forget_floors(me, owner)
{
	step = (owner == DAEMON -> 0 : ARENA_LOCATIONS);
	do
	:: step < (owner == DAEMON -> ARENA_LOCATIONS : LOCATIONS) ->
		if
		:: FLOOR(me, owner, step) <= known[OF(me, owner)] -> FLOOR(me, owner, step) = 0
		:: else
		fi;
		step++
	:: else -> break
	od;
	if
	:: heard[OF(me, owner)] <= known[OF(me, owner)] -> heard[OF(me, owner)] = 0
	:: else
	fi
}

inline learn(me, owner, index)
{
	if
	:: index > known[OF(me, owner)] -> known[OF(me, owner)] = index
	:: else
	fi
}

/* Of the daemon's log: only readers use it. */
inline fence_acquire(me)
{
	d_step {
		learn(me, DAEMON, heard[OF(me, DAEMON)]);
		forget_floors(me, DAEMON)
	}
}

inline fence_with(me, owner)
{
	learn(me, owner, heard[OF(me, owner)]);
	learn(me, owner, fenced[owner]);
	forget_floors(me, owner);
	if
	:: known[OF(me, owner)] > fenced[owner] -> fenced[owner] = known[OF(me, owner)]
	:: else
	fi
}

inline fence_full(me)
{
	d_step {
		released[me] = log_last[me];
		fenced[me] = log_last[me];
		if
		:: me == DAEMON ->
			fence_with(DAEMON, 1);
#if READERS == 2
			fence_with(DAEMON, 2)
#endif
		:: else -> fence_with(me, DAEMON)
		fi
	}
}

/* Whether all that the thread stored can be seen by whoever looks; who does catch up has waited for it. */
#define all_seen(owner) 1

inline catch_up(me, owner)
{
	d_step {
		learn(me, owner, log_last[owner]);
		forget_floors(me, owner)
	}
}

/* What a reader knows that loads nothing any more does not matter. */
inline leave(me)
{
	d_step {
		known[OF(me, DAEMON)] = ARENA_LOG;
		forget_floors(me, DAEMON)
	}
}
