/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory with total store order, as x86 has it: a thread's stores wait in a first-in-first-out buffer of its own and
 * reach memory one by one, at any later time; its loads see its own waiting stores first. A full fence waits until the
 * buffer is empty. Release stores, acquire loads and weaker fences are plain ones here.
 *
 * The daemon's atomic addition to a generation is taken for a plain store, which is less than x86 makes of it.
 */

/* As many as a thread stores between two full fences, or with fences left out at all. */
#define DEPTH 11

byte memory[THREADS * LOCATIONS]; /* the daemon's locations are the arena's */
byte waiting_at[THREADS * DEPTH];
byte waiting_value[THREADS * DEPTH];
byte waiting[THREADS];
hidden byte step;

#define IN_MEMORY(owner, at) memory[(owner) * LOCATIONS + (at)]

inline memory_init(owner)
{
	step = 0;
	do
	:: step < LOCATIONS -> IN_MEMORY(owner, step) = INITIAL(step); step++
	:: else -> break
	od
}

inline store(me, at, value)
{
	d_step {
		assert(waiting[me] < DEPTH);
		waiting_at[(me) * DEPTH + waiting[me]] = at;
		waiting_value[(me) * DEPTH + waiting[me]] = value;
		waiting[me]++
	}
}

#define store_release(me, at, value) store(me, at, value)

/* Only the owner stores to a location: a thread that is not has nothing of it in its buffer. */
inline load(me, owner, at, into)
{
	d_step {
		into = IN_MEMORY(owner, at);
		step = 0;
		do
		:: me == owner && step < waiting[me] ->
			if
			:: waiting_at[(me) * DEPTH + step] == at -> into = waiting_value[(me) * DEPTH + step]
			:: else
			fi;
			step++
		:: else -> break
		od
	}
}

#define load_acquire(me, owner, at, into) load(me, owner, at, into)

#define fence_full(me) waiting[me] == 0
#define fence_acquire(me) skip

/* Whether all that the thread stored can be seen by whoever looks. */
#define all_seen(owner) (waiting[owner] == 0)
#define catch_up(me, owner) skip

/* Forgets what does not matter any more. */
#define leave(me) skip

/* Takes the thread's stores to memory. */
proctype Drain(byte owner)
{
end:	do
	:: d_step {
		waiting[owner] > 0;
		IN_MEMORY(owner, waiting_at[owner * DEPTH]) = waiting_value[owner * DEPTH];
		waiting[owner]--;
		step = 0;
		do
		:: step < waiting[owner] ->
			waiting_at[owner * DEPTH + step] = waiting_at[owner * DEPTH + step + 1];
			waiting_value[owner * DEPTH + step] = waiting_value[owner * DEPTH + step + 1];
			step++
		:: else -> break
		od;
		waiting_at[owner * DEPTH + step] = 0;
		waiting_value[owner * DEPTH + step] = 0
	}
	od
}
