/** The packed form of a document: JSON, then its arrays, each at a multiple of eight bytes. */
import type { Packed, TypedArray } from '../model/types'

const MAGIC = 0x3144504e // "NPD1" read as a little-endian number
const FLOATS: Record<string, number> = { nan: NaN, inf: Infinity, '-inf': -Infinity }

function viewOf(type: string, buffer: ArrayBuffer, at: number, count: number): TypedArray {
    switch (type) {
        case 'f8':
            return new Float64Array(buffer, at, count)
        case 'f4':
            return new Float32Array(buffer, at, count)
        case 'i4':
            return new Int32Array(buffer, at, count)
        case 'i1':
            return new Int8Array(buffer, at, count)
        case 'u1':
            return new Uint8Array(buffer, at, count)
    }
    throw new Error(`array type ${type}: this page is older than its data`)
}

export function unpack(buffer: ArrayBuffer): unknown {
    const head = new DataView(buffer)
    if (buffer.byteLength < 8 || head.getUint32(0, true) !== MAGIC)
        throw new Error('the data of this page is not readable')
    const length = head.getUint32(4, true)
    const arrays = (8 + length + 7) & ~7
    const json = new TextDecoder().decode(new Uint8Array(buffer, 8, length))
    return JSON.parse(json, (_key, value: unknown) => {
        if (typeof value !== 'object' || value === null) return value
        if ('$float' in value) return FLOATS[String(value.$float)]
        if ('$array' in value) {
            const [type, shape, offset] = value.$array as [string, number[], number]
            const count = shape.reduce((product, one) => product * one, 1)
            return { data: viewOf(type, buffer, arrays + offset, count), shape } satisfies Packed
        }
        return value
    })
}
