/** How a run's state is said and marked; never by colour alone. */
import { ago, duration } from '../model/format'
import type { Overview, State } from '../model/types'

export const SIGNS: Record<State, string> = {
    running: '●',
    finished: '✓',
    stopped: '■',
    failed: '✕',
    stale: '◌',
}

/** `now`: unix seconds by the clock of the machine that records. `past`: this is a file, nothing goes on. */
export function stateSaid(overview: Overview, now: number, past: boolean): string {
    const { state, started, last_event } = overview
    const took = duration(Math.max(last_event - started, 0))
    if (state === 'finished') return `finished in ${took}`
    if (state === 'stopped') return `stopped after ${took}`
    if (state === 'failed') return `failed after ${took}`
    if (past) return `${state === 'stale' ? 'silent' : 'running'} when this was written, after ${took}`
    if (state === 'stale') return `silent for ${duration(now - last_event)}: killed or stuck?`
    return `running ${duration(Math.max(now - started, 0))} · last event ${ago(now - last_event)}`
}
