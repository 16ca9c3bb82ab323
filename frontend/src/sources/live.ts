/** The live server: sections by request, news by a stream or, where a proxy holds streams up, by asking every second. */
import type { Curve, Doc, RawEvents, RunEntry, SectionName, Update } from '../model/types'
import type { Connection, RunsSource, Source } from './source'
import { readStream } from './stream'
import { unpack } from './unpack'

export interface Pace {
    silence: number
    poll: number
    /** Between two attempts at streaming while polling works. */
    streamAgain: number
    pause: number
    longest: number
}
const PACE: Pace = { silence: 20_000, poll: 1000, streamAgain: 60_000, pause: 500, longest: 10_000 }

const encoded = (id: string) => id.split('/').map(encodeURIComponent).join('/')

async function asked(address: string, signal?: AbortSignal): Promise<Response> {
    const answer = await fetch(address, { cache: 'no-store', ...(signal ? { signal } : {}) })
    if (answer.ok) return answer
    const said = (await answer.json().catch(() => null)) as { error?: string } | null
    throw new Error(said?.error ?? `the server answered ${answer.status} ${answer.statusText}`)
}
const packed = async (address: string) => unpack(await (await asked(address)).arrayBuffer())

/** `root` leads to the server's first page; `listed`: there is a list of runs to go back to. */
export function liveSource(root: string, id: string, listed: boolean): Source {
    const base = `${root}api/runs/${encoded(id)}`
    return {
        kind: 'live',
        exportHref: `${base}/export`,
        ...(listed ? { listHref: root } : {}),
        async document(sections?: SectionName[]) {
            return (await packed(
                `${base}/document${sections ? `?sections=${sections.join(',')}` : ''}`,
            )) as Partial<Doc>
        },
        async curve(name, first, last, most) {
            const query = new URLSearchParams({
                name,
                first: String(first),
                last: String(last),
                most: String(most),
            })
            return (await packed(`${base}/curve?${query}`)) as Curve
        },
        async events(before, kind, most) {
            const query = new URLSearchParams({ most: String(most) })
            if (before !== null) query.set('before', String(before))
            if (kind) query.set('kind', kind)
            return (await packed(`${base}/events?${query}`)) as RawEvents
        },
        follow: (after, update, connection) => follow(base, after, update, connection),
    }
}

export const runsSource = (root: string): RunsSource => ({
    runs: async () => (await (await asked(`${root}api/runs`)).json()) as RunEntry[],
    hrefOf: (id) => (id === '.' ? root : `${root}run/${encoded(id)}`),
    compareHref: (ids) => `${root}compare?${new URLSearchParams(ids.map((id) => ['run', id]))}`,
})

/** Tells every update once and in order; comes back by itself from wherever it was cut off. */
export function follow(
    base: string,
    after: number,
    told: (update: Update) => void,
    connection: (state: Connection) => void,
    pace: Pace = PACE,
): () => void {
    const end = new AbortController()
    let seen = after
    let wake: () => void = () => {}
    const pause = (time: number) =>
        new Promise<void>((done) => {
            const timer = setTimeout(done, time)
            wake = () => {
                clearTimeout(timer)
                done()
            }
        })
    const take = (update: Update) => {
        if (end.signal.aborted) return
        seen = update.seq
        told(update)
    }

    async function stream(): Promise<boolean> {
        return readStream(
            `${base}/stream?after=${seen}`,
            pace.silence,
            end.signal,
            ({ data }) => take(JSON.parse(data) as Update),
            () => connection('live'),
        )
    }
    async function poll(): Promise<boolean> {
        try {
            const answer = await asked(
                `${base}/updates?after=${seen}`,
                AbortSignal.any([end.signal, AbortSignal.timeout(pace.silence)]),
            )
            const update = (await answer.json()) as Update
            connection('polling')
            // An answer without news still tells the server's clock and state.
            take(update)
            return true
        } catch {
            return false
        }
    }
    async function run() {
        let failures = 0 // of the stream, one after another
        let wait = pace.pause
        let streamAt = 0
        while (!end.signal.aborted) {
            if (failures < 2 || Date.now() >= streamAt) {
                const worked = await stream()
                if (end.signal.aborted) return
                failures = worked ? 0 : failures + 1
                if (worked) {
                    connection('lost')
                    wait = pace.pause
                }
                if (failures >= 2) streamAt = Date.now() + pace.streamAgain
                else await pause(wait)
            } else if (await poll()) {
                // The server is there again after it was away: the stream may work, too.
                if (wait > pace.pause) streamAt = 0
                wait = pace.pause
                await pause(pace.poll)
            } else {
                if (end.signal.aborted) return
                connection('lost')
                await pause(wait)
                wait = Math.min(wait * 2, pace.longest)
            }
        }
    }
    const back = () => wake()
    if (typeof window !== 'undefined') {
        window.addEventListener('online', back)
        document.addEventListener('visibilitychange', back)
    }
    connection('connecting')
    void run()
    return () => {
        end.abort()
        wake()
        if (typeof window !== 'undefined') {
            window.removeEventListener('online', back)
            document.removeEventListener('visibilitychange', back)
        }
    }
}
