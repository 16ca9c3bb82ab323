/** Where a comparison comes from: the file itself, or the live server, which is asked again while runs go on. */
import type { ComparisonSource } from '../compare/compare.svelte'
import type { ComparisonDoc } from '../model/types-comparison'
import { inflate } from './file'
import { unpack } from './unpack'

export const comparisonFile = (element: HTMLElement): ComparisonSource => ({
    kind: 'file',
    document: async () => unpack(await inflate((element.textContent ?? '').trim())) as ComparisonDoc,
})

/** `query`: the runs, as the page's own address names them. */
export function comparisonLive(root: string, query: string): ComparisonSource {
    let known = ''
    const runs = new URLSearchParams(query).getAll('run')
    const wanted = new URLSearchParams(runs.map((run) => ['run', run])).toString()
    return {
        kind: 'live',
        listHref: root,
        exportHref: `${root}api/compare/export?${wanted}`,
        async document() {
            const answer = await fetch(`${root}api/compare?${wanted}`, {
                cache: 'no-store',
                headers: known ? { 'If-None-Match': known } : {},
            })
            if (answer.status === 304) return null
            if (!answer.ok) {
                const said = (await answer.json().catch(() => null)) as { error?: string } | null
                throw new Error(said?.error ?? `the server answered ${answer.status} ${answer.statusText}`)
            }
            known = answer.headers.get('ETag') ?? ''
            return unpack(await answer.arrayBuffer()) as ComparisonDoc
        },
    }
}
