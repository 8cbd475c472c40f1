package lease

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Kind says what a message is.
type Kind string

// The kinds of messages.
const (
	KindAsk     Kind = "ask"     // candidate or holder to voters: grant me this token, or only say whether you would
	KindAnswer  Kind = "answer"  // voter to who asked
	KindRelease Kind = "release" // to voters: my token is over
	KindClaim   Kind = "claim"   // candidate to holder: I have the next grants, stop and yield
	KindYield   Kind = "yield"   // former holder to who claimed: my token is over
)

// Reasons of an answer that grants nothing.
const (
	ReasonBusy     = "Busy"     // granted to another
	ReasonStale    = "Stale"    // the token is not above the ones seen
	ReasonStarting = "Starting" // this voter does not know whom it granted before it lost its disk
	ReasonBehind   = "Behind"   // this voter's plan has not that configuration yet
	ReasonOutdated = "Outdated" // the ask leaves out a configuration that was started
	ReasonRetired  = "Retired"  // the ask counts on a configuration that is no longer in use
	ReasonConflict = "Conflict" // two configurations have one generation
	ReasonStranger = "Stranger" // who asked may not hold
	ReasonTTL      = "TTL"      // the time asked for is out of bounds
)

const (
	// MaxTTL bounds what a voter binds itself to.
	MaxTTL = time.Minute
	// MaxMessage is the most bytes that a message can have.
	MaxMessage = 64 << 10
)

// Grant says to whom a token was granted.
type Grant struct {
	Holder string `json:"holder"`
	Token  uint64 `json:"token"`
	// TTL is the longest time this was granted for at once.
	TTL time.Duration `json:"ttl,omitempty"`
}

// Message is what nodes say to each other.
type Message struct {
	Kind Kind `json:"kind"`
	// Nonce ties an answer to one ask, also across restarts of who asked.
	Nonce uint64 `json:"nonce,omitempty"`
	Token uint64 `json:"token,omitempty"`
	// Known is the newest generation that the sender's plan has.
	Known uint64 `json:"known,omitempty"`

	Probe          bool          `json:"probe,omitempty"`
	Renew          bool          `json:"renew,omitempty"` // who asks holds
	TTL            time.Duration `json:"ttl,omitempty"`
	After          *Grant        `json:"after,omitempty"` // takes effect when this is over
	Configurations []ID          `json:"configurations,omitempty"`
	Leaving        bool          `json:"leaving,omitempty"` // the holder wants to hand over

	Granted bool   `json:"granted,omitempty"`
	Reason  string `json:"reason,omitempty"`
	// Grants are those a voter is bound by; Wait is how long at most.
	Grants  []Grant       `json:"grants,omitempty"`
	Wait    time.Duration `json:"wait,omitempty"`
	Base    *ID           `json:"base,omitempty"`
	Started []ID          `json:"started,omitempty"`
}

// Envelope is a message and whom it is for.
type Envelope struct {
	To      string
	Message Message
}

// Encode gives a message's bytes.
func (m Message) Encode() []byte {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings and numbers always encode
	}
	return b
}

// Decode reads a message from bytes that a member sent, and bounds it.
func Decode(b []byte) (Message, error) {
	if len(b) > MaxMessage {
		return Message{}, fmt.Errorf("decode lease message: %d bytes; the most are %d", len(b), MaxMessage)
	}
	var m Message
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return Message{}, fmt.Errorf("decode lease message: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return Message{}, errors.New("decode lease message: something follows it")
	}
	return m, m.check()
}

func (m Message) check() error {
	switch m.Kind {
	case KindAsk, KindAnswer, KindRelease, KindClaim, KindYield:
	default:
		return fmt.Errorf("decode lease message: kind %.20q is not known", m.Kind)
	}
	if len(m.Configurations) > maxConfigurations || len(m.Started) > maxConfigurations || len(m.Grants) > 2 {
		return errors.New("decode lease message: a list is too long")
	}
	for i, id := range m.Configurations {
		if i > 0 && id.Generation <= m.Configurations[i-1].Generation {
			return errors.New("decode lease message: configurations are not in the order of their generations")
		}
	}
	if m.Kind == KindAsk && len(m.Configurations) == 0 {
		return errors.New("decode lease message: an ask names no configuration")
	}
	if m.TTL < 0 || m.Wait < 0 {
		return errors.New("decode lease message: a time is negative")
	}
	return nil
}
