/** The single file: the whole document lies in the page itself, deflated and in base64. */
import type { Doc, SectionName } from '../model/types'
import type { Source } from './source'
import { unpack } from './unpack'

export async function inflate(base64: string): Promise<ArrayBuffer> {
    const binary = atob(base64)
    const bytes = new Uint8Array(binary.length)
    for (let at = 0; at < binary.length; at++) bytes[at] = binary.charCodeAt(at)
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate-raw'))
    return new Response(stream).arrayBuffer()
}

export function fileSource(element: HTMLElement): Source {
    let whole: Promise<Doc> | undefined
    return {
        kind: 'file',
        document(_sections?: SectionName[]) {
            whole ??= inflate((element.textContent ?? '').trim()).then((buffer) => unpack(buffer) as Doc)
            return whole
        },
    }
}
