// As much of protobuf as the events take.
package main

import (
	"encoding/binary"
	"log"
	"math"
)

const (
	varint = 0
	fixed  = 1
	length = 2
	origin = "core-agent"
)

type setting struct {
	Source string `json:"source"`
	Key    string `json:"key"`
	Value  any    `json:"value"`
}

type update struct {
	sequence int32
	setting  setting
}

func (update update) encode() []byte {
	body := header(update.sequence)
	body = message(body, 3, update.setting.encode())
	return message(nil, 2, body)
}

func encodeSnapshot(sequence int32, settings []setting) []byte {
	body := header(sequence)
	for _, setting := range settings {
		body = message(body, 3, setting.encode())
	}
	return message(nil, 1, body)
}

func header(sequence int32) []byte {
	body := text(nil, 1, origin)
	if sequence == 0 {
		return body
	}
	return binary.AppendUvarint(tag(body, 2, varint), uint64(sequence))
}

func (setting setting) encode() []byte {
	body := text(text(nil, 1, setting.Source), 2, setting.Key)
	var value []byte
	switch known := setting.Value.(type) {
	case float64:
		value = binary.LittleEndian.AppendUint64(tag(nil, 2, fixed), math.Float64bits(known))
	case string:
		value = text(nil, 3, known)
	case bool:
		value = tag(nil, 4, varint)
		if known {
			value = append(value, 1)
		} else {
			value = append(value, 0)
		}
	default:
		log.Fatalf("the workload has no %T", known)
	}
	return message(body, 3, value)
}

func tag(to []byte, field, kind uint64) []byte {
	return binary.AppendUvarint(to, field<<3|kind)
}

func text(to []byte, field uint64, value string) []byte {
	to = binary.AppendUvarint(tag(to, field, length), uint64(len(value)))
	return append(to, value...)
}

func message(to []byte, field uint64, value []byte) []byte {
	to = binary.AppendUvarint(tag(to, field, length), uint64(len(value)))
	return append(to, value...)
}

// As gRPC sends it.
func framed(message []byte) []byte {
	frame := make([]byte, 5, 5+len(message))
	binary.BigEndian.PutUint32(frame[1:], uint32(len(message)))
	return append(frame, message...)
}
